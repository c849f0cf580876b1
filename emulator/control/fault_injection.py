"""Carrying out a fault on a reply's way to the client."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from starlette.responses import JSONResponse, Response
from starlette.types import Message, Send

from emulator.control.faults import Fault, Faults


class Damaged:
    """The way of a reply to the client, with what the fault does to it."""

    def __init__(self, fault: Fault, faults: Faults, send: Send, cut: Callable[[], None]) -> None:
        self._fault = fault
        self._faults = faults
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
            await self._stall(message, start)
            return
        if not self._gone:
            await self._send(message)

    async def _stall(self, message: Message, start: int) -> None:
        """Send a part of the body, in two halves when the stall lies within it."""
        body, at = message["body"], -1 if self._fault.stall is None else self._fault.stall - start
        if 0 <= at < len(body) and not self._gone:
            await self._send({**message, "body": body[:at], "more_body": True})
            await self._faults.hold(self._fault, self._fault.stall_s)
            message = {**message, "body": body[at:]}
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
