"""An HTTP proxy of a few lines that opens tunnels (CONNECT), and remembers what passed."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer


@dataclass
class ConnectProxy:
    """A running proxy.

    Attributes:
        url: its address.
        heads: the head of each request, as it arrived.
        carried: everything that clients sent through tunnels.
    """

    url: str = ""
    heads: list[str] = field(default_factory=list)
    carried: bytearray = field(default_factory=bytearray)

    @property
    def targets(self) -> set[str]:
        """The hosts and ports that tunnels were asked for."""
        return {head.split()[1] for head in self.heads}


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


@contextlib.contextmanager
def proxying(hosts: Mapping[str, int], *, refusal: str = "") -> Iterator[ConnectProxy]:
    """Serve on a free port of loopback within a `with`.

    Args:
        hosts: name → the port of this machine where that host is.
        refusal: answer every request with this status line instead of a tunnel; "close" for no answer.
    """
    proxy = ConnectProxy()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            lines = list(iter(self.rfile.readline, b"\r\n"))
            if not lines or not lines[0]:
                return
            proxy.heads.append(b"".join(lines).decode())
            if refusal:
                if refusal != "close":
                    self.wfile.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            host, _, _port = proxy.heads[-1].split()[1].rpartition(":")
            address = host if host.startswith("127.") else "127.0.0.1"
            with socket.create_connection((address, hosts[host])) as server:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._carry(server)

        def _carry(self, server: socket.socket) -> None:
            """Pass bytes both ways until one side has no more."""
            while True:
                readable, _, _ = select.select([self.connection, server], [], [])
                for source in readable:
                    try:
                        data = source.recv(65536)
                    except ConnectionError:
                        data = b""
                    if not data:
                        return
                    if source is self.connection:
                        proxy.carried += data
                    (server if source is self.connection else self.connection).sendall(data)

    with _Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
