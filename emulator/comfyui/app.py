"""ComfyUI's routes, each also under `/api`, and the knobs under `/_emulator`."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from emulator.comfyui import files, jobs
from emulator.comfyui.engine import Engine
from emulator.comfyui.settings import Folders, Settings
from emulator.comfyui.validation import ServerTrouble
from emulator.state import State

Handler = Callable[[Request], Awaitable[Response]]


def app(state: State) -> ASGIApp:
    """Make the ComfyUI that stands for the one on a user's own machine; its files lie under the root."""
    base = state.root / "comfyui"
    settings = Settings(Folders.under(base), huggingface_cache=base / "huggingface-cache" / "hub")
    comfyui, engine = build(settings)
    resets: set[asyncio.Task[None]] = set()

    def reset() -> None:
        task = asyncio.ensure_future(engine.reset())
        resets.add(task)
        task.add_done_callback(resets.discard)

    state.on_reset.append(reset)
    return comfyui


def build(settings: Settings) -> tuple[Starlette, Engine]:
    """Make a ComfyUI from its settings: the app, and the engine behind it."""
    for folder in (
        settings.folders.models,
        settings.folders.input,
        settings.folders.output,
        settings.folders.temp,
    ):
        folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(settings)
    plain = _routes(engine)
    under_api: list[BaseRoute] = [*plain]
    if settings.modern:
        under_api += jobs.routes(engine)
    routes = [*plain, *_emulator_routes(engine), Mount("/api", routes=under_api)]
    handlers: dict[Any, Any] = {ServerTrouble: _trouble, HTTPException: _bare_status}
    middleware = [Middleware(Doorman, settings=settings)]
    return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware), engine


def _trouble(_: Request, __: Exception) -> Response:
    text = "500 Internal Server Error\n\nServer got itself in trouble"
    return PlainTextResponse(text, 500, {"Connection": "close"})


def _bare_status(_: Request, error: HTTPException) -> Response:
    return Response(status_code=error.status_code)


class Doorman:
    """Turn away requests of other origins and bodies that are too large, as ComfyUI does."""

    def __init__(self, inner: ASGIApp, settings: Settings) -> None:
        self._inner = inner
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event of the server."""
        if scope["type"] == "http":
            headers = Request(scope).headers
            origin, host = headers.get("origin"), headers.get("host", "")
            foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
            if (foreign or headers.get("sec-fetch-site") == "cross-site") and not self._settings.any_origin:
                await Response(status_code=403)(scope, receive, send)
                return
            limit = self._settings.max_upload_bytes
            if int(headers.get("content-length", 0)) > limit:
                too_large = PlainTextResponse(f"Maximum request body size {limit} exceeded.", 413)
                await too_large(scope, receive, send)
                return
        await self._inner(scope, receive, send)


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, UnicodeDecodeError):
        raise ServerTrouble from None


def _route(path: str, handler: Handler, *methods: str) -> Route:
    return Route(path, handler, methods=list(methods or ("GET",)))


def _routes(engine: Engine) -> list[BaseRoute]:
    return [
        *_queue_routes(engine),
        *_history_routes(engine),
        *_model_routes(engine),
        *_server_routes(engine),
        WebSocketRoute("/ws", _websocket(engine)),
    ]


def _queue_routes(engine: Engine) -> Sequence[BaseRoute]:
    async def prompt(request: Request) -> Response:
        body = await _json(request)
        if not isinstance(body, dict):
            raise ServerTrouble
        status, answer = engine.submit(body)
        return JSONResponse(answer, status)

    async def remaining(_: Request) -> Response:
        return JSONResponse(engine.status()["status"])

    async def queue(_: Request) -> Response:
        running = [] if engine.running is None else [engine.running.to_json()]
        return JSONResponse(
            {"queue_running": running, "queue_pending": [one.to_json() for one in engine.pending]}
        )

    async def change_queue(request: Request) -> Response:
        body = await _json(request)
        if body.get("clear"):
            engine.dequeue(None)
        engine.dequeue(list(body.get("delete", [])))
        return Response()

    async def interrupt(request: Request) -> Response:
        try:
            prompt_id = json.loads(await request.body()).get("prompt_id")
        except (ValueError, AttributeError):
            prompt_id = None
        engine.interrupt(prompt_id)
        return Response()

    async def free(request: Request) -> Response:
        if (await _json(request)).get("free_memory"):
            engine.forget()
        return Response()

    return [
        _route("/prompt", prompt, "POST"),
        _route("/prompt", remaining),
        _route("/queue", queue),
        _route("/queue", change_queue, "POST"),
        _route("/interrupt", interrupt, "POST"),
        _route("/free", free, "POST"),
    ]


def _history_routes(engine: Engine) -> Sequence[BaseRoute]:
    async def history(request: Request) -> Response:
        query = request.query_params
        try:
            limit = int(query["max_items"]) if "max_items" in query else None
            offset = int(query.get("offset", -1))
        except ValueError:
            raise ServerTrouble from None
        ids = list(engine.history)
        if offset < 0 and limit is not None:
            offset = max(0, len(ids) - limit)
        first = max(0, offset)
        chosen = ids[first : None if limit is None else first + limit]
        return JSONResponse({prompt_id: engine.history_entry(prompt_id) for prompt_id in chosen})

    async def one(request: Request) -> Response:
        prompt_id = request.path_params["prompt_id"]
        known = prompt_id in engine.history
        return JSONResponse({prompt_id: engine.history_entry(prompt_id)} if known else {})

    async def change(request: Request) -> Response:
        body = await _json(request)
        if body.get("clear"):
            engine.history.clear()
        for prompt_id in body.get("delete", []):
            engine.history.pop(prompt_id, None)
        return Response()

    return [
        _route("/history", history),
        _route("/history", change, "POST"),
        _route("/history/{prompt_id}", one),
    ]


def _model_routes(engine: Engine) -> Sequence[BaseRoute]:
    library, modern = engine.library, engine.settings.modern

    async def nodes(_: Request) -> Response:
        found = await asyncio.to_thread(
            lambda: {name: node.info(library, modern=modern) for name, node in engine.nodes.items()}
        )
        return JSONResponse(found)

    async def node(request: Request) -> Response:
        name = request.path_params["name"]
        known = engine.nodes.get(name)
        return JSONResponse({} if known is None else {name: known.info(library, modern=modern)})

    async def categories(_: Request) -> Response:
        return JSONResponse([name for name in library.categories if name != "custom_nodes"])

    async def names(request: Request) -> Response:
        folder = request.path_params["folder"]
        if folder not in library.categories:
            return Response(status_code=404)
        return JSONResponse(await asyncio.to_thread(library.names, folder))

    async def embeddings(_: Request) -> Response:
        return JSONResponse([name.rpartition(".")[0] for name in library.names("embeddings")])

    async def metadata(request: Request) -> Response:
        name = request.query_params.get("filename", "")
        found = files.model_metadata(library.find(request.path_params["folder"], name))
        return Response(status_code=404) if found is None else JSONResponse(found)

    async def folder_paths(_: Request) -> Response:
        paths = {name: [str(path) for path in one.paths] for name, one in library.categories.items()}
        return JSONResponse(paths)

    async def experiment(_: Request) -> Response:
        shown = []
        for name, one in library.categories.items():
            if name not in ("configs", "custom_nodes"):
                folders = [str(path) for path in one.paths]
                shown.append({"name": name, "folders": folders, "extensions": sorted(one.extensions or ())})
        return JSONResponse(shown)

    return [
        _route("/object_info", nodes),
        _route("/object_info/{name}", node),
        _route("/models", categories),
        _route("/models/{folder}", names),
        _route("/embeddings", embeddings),
        _route("/view_metadata/{folder}", metadata),
        _route("/internal/folder_paths", folder_paths),
        _route("/experiment/models", experiment),
    ]


def _server_routes(engine: Engine) -> Sequence[BaseRoute]:
    async def system_stats(_: Request) -> Response:
        return JSONResponse(stats(engine))

    async def feature_flags(_: Request) -> Response:
        return JSONResponse(features(engine))

    async def view(request: Request) -> Response:
        return await asyncio.to_thread(files.view, engine.settings.folders, request)

    async def upload(request: Request) -> Response:
        return await files.upload(engine.settings.folders, request)

    async def users(_: Request) -> Response:
        return JSONResponse({"storage": "server", "migrated": False})

    async def settings(_: Request) -> Response:
        return JSONResponse({})

    return [
        _route("/system_stats", system_stats),
        _route("/features", feature_flags),
        _route("/view", view),
        _route("/upload/image", upload, "POST"),
        _route("/users", users),
        _route("/settings", settings),
    ]


def _emulator_routes(engine: Engine) -> Sequence[BaseRoute]:
    knobs = engine.settings.knobs

    async def show(_: Request) -> Response:
        return JSONResponse(knobs.to_json())

    async def turn(request: Request) -> Response:
        problems = knobs.update(await _json(request))
        return JSONResponse({"problems": problems}, 400) if problems else JSONResponse(knobs.to_json())

    return [_route("/_emulator/knobs", show), _route("/_emulator/knobs", turn, "PATCH")]


def _websocket(engine: Engine) -> Callable[[WebSocket], Awaitable[None]]:
    async def websocket(socket: WebSocket) -> None:
        greeting = [("status", engine.status())]
        client_id = socket.query_params.get("clientId")
        # A client that comes back in the middle is told the node at work, without the prompt's id.
        if engine.running is not None and engine.running.client_id == client_id and client_id:
            greeting.append(("executing", {"node": engine.current_node}))
        await engine.sockets.serve(socket, greeting, features(engine))

    return websocket


def features(engine: Engine) -> dict[str, Any]:
    """Tell what this server can do."""
    shown: dict[str, Any] = {
        "supports_preview_metadata": True,
        "max_upload_size": engine.settings.max_upload_bytes,
    }
    if engine.settings.modern:
        shown |= {
            "supports_model_type_tags": True,
            "extension": {},
            "node_replacements": True,
            "assets": False,
        }
    return shown


def stats(engine: Engine) -> dict[str, Any]:
    """Describe the machine: a GPU that is not there, of the size that the knobs say."""
    settings = engine.settings
    vram = int(settings.knobs.vram_gb * 2**30)
    system = {
        "os": "linux" if settings.modern else "posix",
        "ram_total": 32 * 2**30,
        "ram_free": 24 * 2**30,
        "comfyui_version": ".".join(map(str, settings.version)),
        "required_frontend_version": "1.47.10",
        "installed_templates_version": None,
        "required_templates_version": "0.11.19",
        "python_version": sys.version,
        "pytorch_version": "2.13.0+emulated",
        "embedded_python": False,
        "argv": list(settings.argv),
    }
    if settings.modern:
        system |= {"comfy_package_versions": [], "deploy_environment": "local-git"}
    gpu = {
        "name": f"cuda:0 Emulated GPU on {platform.machine()} : cudaMallocAsync",
        "type": "cuda",
        "index": 0,
        "vram_total": vram,
        "vram_free": vram,
        "torch_vram_total": 0,
        "torch_vram_free": 0,
    }
    return {"system": system, "devices": [gpu]}
