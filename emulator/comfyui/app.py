"""A ComfyUI as one ASGI app: its routes, each also under `/api`, and the knobs under `/_emulator`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from emulator.comfyui.api import jobs
from emulator.comfyui.api.routes import all_routes, json_body, route
from emulator.comfyui.graph.engine import Engine
from emulator.comfyui.graph.validation import ServerTrouble
from emulator.comfyui.settings import Folders, Settings
from emulator.state import State

_comfyuis: WeakKeyDictionary[State, tuple[Starlette, Engine]] = WeakKeyDictionary()


def app(state: State) -> ASGIApp:
    """Make the ComfyUI that stands for the one on a user's own machine; its files lie under the root."""
    return _mounted(state)[0]


def engine_of(state: State) -> Engine:
    """Return the engine behind it."""
    return _mounted(state)[1]


def control_routes(state: State) -> Sequence[BaseRoute]:
    """Make `/knobs`, which the program has under `/_emulator`."""
    return _knob_routes(engine_of(state), "/knobs", alone=False)


def _mounted(state: State) -> tuple[Starlette, Engine]:
    if state not in _comfyuis:
        base = state.root / "comfyui"
        cache = base / "huggingface-cache" / "hub"
        _comfyuis[state] = comfyui = build(
            Settings(Folders.under(base), huggingface_cache=cache), alone=False
        )
        state.on_reset.append(comfyui[1].reset)
    return _comfyuis[state]


def build(settings: Settings, *, alone: bool = True) -> tuple[Starlette, Engine]:
    """Make a ComfyUI from its settings: the app, and the engine behind it.

    Args:
        alone: whether it has its process for itself, and may therefore be told to die.
    """
    for folder in settings.folders.of_files:
        folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(settings)
    plain = all_routes(engine)
    under_api: list[BaseRoute] = [*plain]
    if settings.modern:
        under_api += jobs.routes(engine)
    routes = [*plain, *_knob_routes(engine, "/_emulator/knobs", alone=alone), Mount("/api", routes=under_api)]
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


def _knob_routes(engine: Engine, path: str, *, alone: bool) -> Sequence[BaseRoute]:
    knobs = engine.settings.knobs

    async def show(_: Request) -> Response:
        return JSONResponse(knobs.to_json())

    async def turn(request: Request) -> Response:
        changes = await json_body(request)
        if changes.get("die_in") and not alone:
            return JSONResponse({"problems": ["die_in would end the whole emulator"]}, 400)
        problems = knobs.update(changes)
        return JSONResponse({"problems": problems}, 400) if problems else JSONResponse(knobs.to_json())

    return [route(path, show), route(path, turn, "PATCH")]
