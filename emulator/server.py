"""The HTTP front: which plane answers, what goes wrong on the way, and the request log.

What the planes are, `planes` knows.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator import planes
from emulator.faults import Fault
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
    return Front(Starlette(routes=routes, lifespan=lifespan), state)


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
            await send(message)

        try:
            if fault is None:
                await self._inner(scope, receive, send_logged)
            else:
                await self._suffer(fault, scope, receive, send_logged, cutter(send))
        finally:
            if entry.status is None:
                log.finish(entry, 0, name)

    async def _suffer(
        self, fault: Fault, scope: Scope, receive: Receive, send: Send, cut: Callable[[], None]
    ) -> None:
        await asyncio.sleep(fault.delay_s)
        if fault.die == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.cut == "before":
            cut()
        elif fault.status is not None:
            await forced(fault)(scope, receive, send)
        else:
            await self._inner(scope, receive, Damaged(fault, send, cut).send)


class Damaged:
    """The way of a reply to the client, with what the fault does to it."""

    def __init__(self, fault: Fault, send: Send, cut: Callable[[], None]) -> None:
        self._fault = fault
        self._send = send
        self._cut = cut
        self._sent = 0
        self._gone = False

    async def send(self, message: Message) -> None:
        """Pass one ASGI message on, damaged; once the connection is cut, nowhere."""
        if message["type"] == "http.response.start":
            message = self._start(message)
        elif message["type"] == "http.response.body":
            start = self._sent
            self._sent += len(message.get("body", b""))
            if not self._gone and isinstance(self._fault.cut, int) and self._sent > self._fault.cut:
                await self._send(
                    {**message, "body": message["body"][: self._fault.cut - start], "more_body": True}
                )
                self._hang_up()
            message = {**message, "body": self._damage(message.get("body", b""), start)}
        if not self._gone:
            await self._send(message)

    def _start(self, message: Message) -> Message:
        if self._fault.die == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault.cut == "after":
            self._hang_up()
        headers = [(name, self._header(name, value)) for name, value in message["headers"]]
        headers += [(name.encode(), value.encode()) for name, value in self._fault.headers.items()]
        return {**message, "headers": headers}

    def _header(self, name: bytes, value: bytes) -> bytes:
        if name == b"content-length" and self._fault.truncate is not None:
            return str(min(int(value), self._fault.truncate)).encode()
        return value

    def _damage(self, body: bytes, start: int) -> bytes:
        at = -1 if self._fault.corrupt is None else self._fault.corrupt - start
        if 0 <= at < len(body):
            body = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
        if self._fault.truncate is not None:
            body = body[: max(0, self._fault.truncate - start)]
        return body

    def _hang_up(self) -> None:
        self._cut()
        self._gone = True


def forced(fault: Fault) -> Response:
    """Make the reply that a fault gives in the plane's place."""
    status = fault.status or 500
    if isinstance(fault.body, str):
        return Response(fault.body, status, fault.headers)
    return JSONResponse({} if fault.body is None else fault.body, status, fault.headers)


def cutter(send: Send) -> Callable[[], None]:
    """Make what closes the client's connection as a network would: what was written goes out, then no more.

    ASGI has no word for it, so this reaches for uvicorn's request cycle, whose method `send` is.
    """
    cycle = send.__self__  # type: ignore[attr-defined]  # ASGI's Send is any callable; uvicorn's is a method

    def cut() -> None:
        cycle.transport.close()
        cycle.disconnected = True

    return cut
