"""A server of a few lines on a real socket, for what no emulator should have to do."""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is sent back; `length` announces another length than the body has."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass
class SmallServer:
    """One running server. `answer` is called with every request, in order."""

    url: str
    seen: list[Seen]


class _Server(ThreadingHTTPServer):
    """One that takes it quietly when a client goes before the end, as some of ours are right to do."""

    daemon_threads = True
    request_queue_size = 512  # connections that a crowd of clients opens at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that does not trust the certificate ends the handshake.
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(
    answer: Callable[[Seen], Answer], *, certificate: Path | None = None, host: str = "127.0.0.1"
) -> Iterator[SmallServer]:
    """Serve on a free port of loopback within a `with`.

    Args:
        answer: called with every request, in order.
        certificate: a file with a certificate and its key; the server speaks TLS then.
        host: the address to listen at.
    """
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append(Seen(self.command, self.path, headers, body))
            reply = answer(seen[-1])
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = len(reply.body) if reply.length is None else reply.length
            self.send_header("content-length", str(length))
            self.end_headers()
            self.wfile.write(reply.body)
            if length != len(reply.body):
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _do

    with _Server((host, 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is the connection's own thread's: one that fails does not stop the server.
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            scheme = "http" if certificate is None else "https"
            yield SmallServer(f"{scheme}://{host}:{server.server_port}", seen)
        finally:
            server.shutdown()
            thread.join()
