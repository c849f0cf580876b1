"""A server that never ends: it sends a byte of an answer's head or body now and then."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from typing import Any


class DrippingServer(socketserver.ThreadingTCPServer):
    """One running server; `reached` is set once a request has its first bytes."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, start: bytes) -> None:
        self.start, self.leave, self.reached = start, threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/a.png"

    def finish_request(self, request: Any, _: Any) -> None:
        request.recv(65536)
        with contextlib.suppress(OSError):
            request.sendall(self.start)
            self.reached.set()
            while not self.leave.wait(0.02):
                request.sendall(b"x")


HEADS = {
    "head": b"HTTP/1.1 200 OK\r\nX-",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    "body without a length": b"HTTP/1.1 200 OK\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
    "status": b"HTTP/1.1 2",
    "chunk's length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
}


@contextlib.contextmanager
def serving_slowly(start: bytes) -> Iterator[DrippingServer]:
    """Serve on loopback: first these bytes, then one at a time for ever."""
    with DrippingServer(start) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.leave.set()
        server.shutdown()
        thread.join()
