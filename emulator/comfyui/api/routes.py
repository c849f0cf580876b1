"""ComfyUI's routes over one engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from emulator.comfyui.api import files
from emulator.comfyui.graph.engine import Engine
from emulator.comfyui.graph.validation import ServerTrouble
from emulator.comfyui.system import features, stats

Handler = Callable[[Request], Awaitable[Response]]


async def json_body(request: Request) -> Any:
    """Read a body.

    Raises:
        ServerTrouble: it is no JSON.
    """
    try:
        return await request.json()
    except (ValueError, UnicodeDecodeError):
        raise ServerTrouble from None


def route(path: str, handler: Handler, *methods: str) -> Route:
    """Make a route for the methods, GET without any."""
    return Route(path, handler, methods=list(methods or ("GET",)))


def all_routes(engine: Engine) -> list[BaseRoute]:
    """Make every route but `/api/jobs`."""
    return [
        *_queue_routes(engine),
        *_history_routes(engine),
        *_model_routes(engine),
        *_server_routes(engine),
        WebSocketRoute("/ws", _websocket(engine)),
    ]


def _queue_routes(engine: Engine) -> Sequence[BaseRoute]:
    async def prompt(request: Request) -> Response:
        body = await json_body(request)
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
        body = await json_body(request)
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
        if (await json_body(request)).get("free_memory"):
            engine.forget()
        return Response()

    return [
        route("/prompt", prompt, "POST"),
        route("/prompt", remaining),
        route("/queue", queue),
        route("/queue", change_queue, "POST"),
        route("/interrupt", interrupt, "POST"),
        route("/free", free, "POST"),
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
        body = await json_body(request)
        if body.get("clear"):
            engine.history.clear()
        for prompt_id in body.get("delete", []):
            engine.history.pop(prompt_id, None)
        return Response()

    return [
        route("/history", history),
        route("/history", change, "POST"),
        route("/history/{prompt_id}", one),
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
        return JSONResponse(list(library.categories))

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
                entry: dict[str, Any] = {"name": name, "folders": [str(path) for path in one.paths]}
                if modern:
                    entry["extensions"] = sorted(one.extensions or ())
                shown.append(entry)
        return JSONResponse(shown)

    return [
        route("/object_info", nodes),
        route("/object_info/{name}", node),
        route("/models", categories),
        route("/models/{folder}", names),
        route("/embeddings", embeddings),
        route("/view_metadata/{folder}", metadata),
        route("/internal/folder_paths", folder_paths),
        route("/experiment/models", experiment),
    ]


def _server_routes(engine: Engine) -> Sequence[BaseRoute]:
    async def system_stats(_: Request) -> Response:
        return JSONResponse(stats(engine.settings))

    async def feature_flags(_: Request) -> Response:
        return JSONResponse(features(engine.settings))

    async def view(request: Request) -> Response:
        return await asyncio.to_thread(files.view, engine.settings.folders, request)

    async def upload(request: Request) -> Response:
        return await files.upload(engine.settings.folders, request)

    async def users(_: Request) -> Response:
        return JSONResponse({"storage": "server", "migrated": False})

    async def settings(_: Request) -> Response:
        return JSONResponse({})

    return [
        route("/system_stats", system_stats),
        route("/features", feature_flags),
        route("/view", view),
        route("/upload/image", upload, "POST"),
        route("/users", users),
        route("/settings", settings),
    ]


def _websocket(engine: Engine) -> Callable[[WebSocket], Awaitable[None]]:
    async def websocket(socket: WebSocket) -> None:
        greeting = [("status", engine.status())]
        client_id = socket.query_params.get("clientId")
        # A client that comes back in the middle is told the node at work, without the prompt's id.
        if engine.running is not None and engine.running.client_id == client_id and client_id:
            greeting.append(("executing", {"node": engine.current_node}))
        await engine.sockets.serve(socket, greeting, features(engine.settings))

    return websocket
