"""The HTTP front: which plane answers, what goes wrong on the way, and the request log.

What the planes are, `planes` knows.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator import planes, unsupported
from emulator.control.fault_injection import Damaged, cutter, forced
from emulator.control.faults import Fault
from emulator.state import State


def app(state: State) -> ASGIApp:
    """Make the whole emulator as one ASGI app."""
    loaded = planes.load(state)
    state.route_globs = [glob for plane in loaded for glob in plane.globs]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for plane in loaded:
                if isinstance(plane.app, Starlette):
                    await stack.enter_async_context(plane.app.router.lifespan_context(plane.app))
            yield

    # Before the control plane itself, which would take their paths for its own.
    routes: list[BaseRoute] = [
        Mount(f"/_emulator{plane.prefix}", routes=plane.control) for plane in loaded if plane.control
    ]
    routes += [Mount(plane.prefix, app=plane.app) for plane in loaded]
    # A mount has no path without the slash behind it, and S3's list of buckets is asked for there.
    routes += [Route(plane.prefix, plane.app) for plane in loaded if not isinstance(plane.app, Starlette)]
    routes += unsupported.routes()
    return Front(
        Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: unsupported.refuse}),
        state,
    )


KEEP_ALIVE_S = 600
"""How long an idle connection stays open, in seconds.

The `runpod` SDK sends a worker's result on the connection of its last request, also after a handler that held
its event loop for minutes, and does not repeat it when the server has closed that connection meanwhile.
RunPod's own limit is not documented; handlers of many minutes work there.
"""


class Front:
    """Log each request, and let the fault that was set for it happen."""

    def __init__(self, inner: ASGIApp, state: State) -> None:
        self._inner = inner
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event of the server."""
        if scope["type"] != "http" or scope["path"].startswith("/_emulator"):
            await self._inner(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        log = self._state.request_log
        entry = log.start(method, path, scope["query_string"].decode())
        fault = self._state.faults.take(method, path)
        name = None if fault is None else f"#{fault.id}"

        async def send_logged(message: Message) -> None:
            # Before it is sent: who has the answer finds it in the log.
            if message["type"] == "http.response.start":
                log.finish(entry, message["status"], name)
            entry.sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            if fault is None:
                await self._inner(scope, receive, send_logged)
            else:
                await self._suffer(fault, scope, receive, send_logged, cutter(send))
        except ClientDisconnect:
            # It was gone before it had asked: nothing was done, and nobody is there to be told.
            log.finish(entry, 0, name)
        finally:
            if entry.status is None:
                log.finish(entry, 0, name)

    async def _suffer(
        self, fault: Fault, scope: Scope, receive: Receive, send: Send, cut: Callable[[], None]
    ) -> None:
        await self._state.faults.hold(fault, fault.delay_s)
        if fault.die == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.cut == "before":
            cut()
        elif fault.status is not None:
            # An answer before the end of the request would leave the connection in the middle of it.
            while (await receive()).get("more_body"):
                pass
            await forced(fault)(scope, receive, send)
        else:
            await self._inner(scope, receive, Damaged(fault, self._state.faults, send, cut).send)
