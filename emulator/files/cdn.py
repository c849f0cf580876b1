"""The host that bytes of large models come from: another port, signed links that expire, and nothing else.

It knows no repository and no token: whoever has a link may read, as at the hubs' real CDNs.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import socket
from collections.abc import AsyncIterator, Generator
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emulator.files import ranges
from emulator.files.content import Content
from emulator.state import State

LINK_LIFE_S = 3600
KEY_PAIR = "K2EMULATED"
DENIED = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>{}</Message></Error>'

_cdns: WeakKeyDictionary[State, Cdn] = WeakKeyDictionary()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the emulator's own server."""
        yield


class Cdn:
    """One CDN. Contents are known from the moment a link to them is signed."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._secret = secrets.token_bytes(16)
        self._contents: dict[str, Content] = {}
        # asyncio turns Nagle's algorithm off only where the protocol is named: else each answer takes 40 ms.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def link(self, plane: str, content: Content, filename: str) -> str:
        """Sign a link to a content, good for an hour."""
        path = f"/cdn/{plane}/{hashlib.sha256(content.key.encode()).hexdigest()}"
        self._contents[path] = content
        expires = int(self._state.clock.now()) + LINK_LIFE_S
        disposition = f"inline; filename*=UTF-8''{quote(filename)}; filename=\"{filename}\";"
        query = {
            "response-content-disposition": disposition,
            "Expires": expires,
            "Signature": self._sign(path, expires),
            "Key-Pair-Id": KEY_PAIR,
        }
        return f"{self.url}{path}?{urlencode(query)}"

    def _sign(self, path: str, expires: int) -> str:
        return hmac.new(self._secret, f"{path}?{expires}".encode(), "sha256").hexdigest()

    async def answer(self, request: Request) -> Response:
        """Serve a signed link."""
        query, path = request.query_params, request.url.path
        expires = int(query.get("Expires", "0"))
        if not hmac.compare_digest(query.get("Signature", ""), self._sign(path, expires)):
            return Response(DENIED.format("Access denied"), 403, media_type="application/xml")
        if expires < self._state.clock.now():
            return Response(DENIED.format("Request has expired"), 403, media_type="application/xml")
        content = self._contents[path]
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": query["response-content-disposition"],
        }
        return ranges.serve(request, content, f'"{path.rpartition("/")[2]}"', headers)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve while the emulator does. Faults and the request log see these requests as `/cdn/*`."""
        from emulator.server import KEEP_ALIVE_S, Front

        self._state.route_globs = [*self._state.route_globs, "/cdn/*"]
        app = Starlette(routes=[Route("/cdn/{rest:path}", self.answer, methods=["GET"])])
        config = uvicorn.Config(
            Front(app, self._state),
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=KEEP_ALIVE_S,
            lifespan="off",
        )
        server = _Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [self._socket])
            yield
            server.should_exit = True


def cdn_of(state: State) -> Cdn:
    """Return the one CDN of an emulator."""
    if state not in _cdns:
        _cdns[state] = Cdn(state)
    return _cdns[state]
