"""How far a run is, heard on ComfyUI's websocket: a hint, on which nothing depends.

A thread reads text frames and keeps the latest word; whoever polls takes it
along. Every trouble just ends the hint: sockets of ComfyUI fall silent for
good reasons and bad ones (facts: comfyui.md 3), and polling is the authority.
Reading four kinds of frames takes fewer lines than a library would take time
to load.

Source: RFC 6455; recordings ws_* of v0.29.0 and v0.3.64.
"""

import base64
import contextlib
import secrets
import socket
import struct
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

from backend.flow.request_slots import most_at_once
from backend.validation.json_reader import as_count, as_object, as_text, read_json

TIMEOUT_S: Final = 5.0
LARGEST_BYTES: Final = 64 * 1024 * 1024
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


@cache
def _listeners() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(max(1, most_at_once() // 2))


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int, /) -> bytes: ...
    def write(self, content: bytes, /) -> int: ...
    def flush(self) -> None: ...


class Hint:
    """The latest progress of one client's run, within a ``with``.

    Args:
        url: ComfyUI's.
        client_id: what the run is queued with; ComfyUI tells each client of its own runs.
    """

    def __init__(self, url: str, client_id: str) -> None:
        self._url = url
        self._client_id = client_id
        self._socket: socket.socket | None = None
        self._closed = False
        self._latest: dict[str, Any] = {}

    def __enter__(self) -> Self:
        # A hint is not worth an open file that a request needs.
        if _listeners().acquire(blocking=False):
            threading.Thread(target=self._listen, name="comfyui-hint", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        open_socket = self._socket
        if open_socket is not None:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def latest(self, prompt_id: str) -> Mapping[str, Any]:
        """Return the latest word about a run: ``{"node", "value", "max"}`` as far as known, or ``{}``."""
        return dict(self._latest.get(prompt_id, {}))

    def _listen(self) -> None:
        try:
            self._hear_all()
        finally:
            _listeners().release()

    def _hear_all(self) -> None:
        with (
            contextlib.suppress(OSError, ValueError, KeyError, struct.error),
            self._connected() as connection,
            connection.makefile("rwb") as stream,
        ):
            self._socket = connection
            _shake_hands(stream, self._url, self._client_id)
            # A long node is silent for minutes; only the end of the run ends the wait.
            connection.settimeout(None)
            while not self._closed:
                kind, content = _message(stream)
                if kind == _TEXT:
                    self._hear(read_json(content))

    def _connected(self) -> socket.socket:
        parts = urlsplit(self._url)
        host = parts.hostname or "localhost"
        secure = parts.scheme == "https"
        connection = socket.create_connection((host, parts.port or (443 if secure else 80)), TIMEOUT_S)
        if not secure:
            return connection
        import ssl

        return ssl.create_default_context().wrap_socket(connection, server_hostname=host)

    def _hear(self, message: Any) -> None:
        """Note a message, told apart by prompt: without one it may be about another client's run."""
        kind, data = as_object(message).get("type"), as_object(as_object(message).get("data"))
        prompt_id, node = as_text(data.get("prompt_id")), as_text(data.get("node"))
        if not prompt_id or not node:
            return
        if kind == "executing":
            self._latest[prompt_id] = {"node": node}
        elif kind == "progress":
            value, most = as_count(data.get("value")), as_count(data.get("max"))
            if value is None or most is None:
                return
            self._latest[prompt_id] = {"node": node, "value": value, "max": most}


def _shake_hands(stream: _Stream, url: str, client_id: str) -> None:
    parts = urlsplit(url)
    lines = (
        f"GET {parts.path}/ws?clientId={client_id} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
    )
    stream.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    stream.flush()
    if b" 101 " not in stream.readline(1000):
        raise ValueError("no websocket here")
    while stream.readline(10_000).strip():
        pass


def _message(stream: _Stream) -> tuple[int, bytes]:
    """Read one message: its kind, and its whole content, which may come in several frames.

    Control frames may come between them; a ping is answered, a close is an end like any other.
    """
    whole, kind = b"", 0
    while True:
        first, second = struct.unpack("!BB", _exactly(stream, 2))
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(_exactly(stream, 2 if size == 126 else 8), "big")
        if size + len(whole) > LARGEST_BYTES:
            raise ValueError("a frame too large to be progress")
        content = _exactly(stream, size)
        code = first & 0x0F
        if code == _CLOSE:
            raise ValueError("the server closed it")
        if code == _PING:
            _send(stream, _PONG, content)
        if code & 0x8:
            continue
        kind, whole = code or kind, whole + content
        if first & 0x80:
            return kind, whole


def _exactly(stream: _Stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise ValueError("the socket ended")
    return content


def _send(stream: _Stream, kind: int, content: bytes) -> None:
    """Send a control frame; what a client sends is masked."""
    mask = secrets.token_bytes(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))
    stream.write(bytes([0x80 | kind, 0x80 | len(content)]) + mask + masked)
    stream.flush()
