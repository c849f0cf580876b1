"""A model hub with one file, as fast as the kernel sends it, so that a benchmark measures clients.

It answers what `huggingface_hub` and our own client ask for a file in LFS:
HEAD with the commit, the size and the sha256, and GET with ranges. The bytes
go from the page cache to the socket by sendfile. Run as a program:
``python benchmarks/hub_server.py FILE SHA256 [LATENCY_S BYTES_PER_S]`` prints its
address, and at each SIGUSR1 how many bytes it has sent. With a latency and a
rate, each answer begins that late and each connection gets no more: a hub far away.
"""

import http.server
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STEP = 1 << 20
RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file: Path
    sha256: str
    latency_s = 0.0
    bytes_per_s = float("inf")

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        if "/resolve/" not in self.path:
            self.send_error(404)
            return
        time.sleep(self.latency_s)
        size = self.file.stat().st_size
        byte_range = RANGE.match(self.headers.get("Range", ""))
        start, end = 0, size
        if byte_range:
            start, end = int(byte_range[1]), min(size, int(byte_range[2]) + 1 if byte_range[2] else size)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{self.sha256}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Etag", f'"{self.sha256}"')
        self.send_header("X-Linked-Size", str(size))
        self.end_headers()
        self.wfile.flush()
        if body:
            self.send_bytes(start, end)

    def send_bytes(self, start: int, end: int) -> None:
        begun, first = time.monotonic(), start
        with self.file.open("rb") as file:
            while start < end:
                # A call returns when all of its bytes are on their way, and only then are they counted.
                sent = os.sendfile(self.connection.fileno(), file.fileno(), start, min(end - start, STEP))
                if not sent:
                    return
                start += sent
                with Server.lock:
                    Server.sent += sent
                time.sleep(max(0.0, begun + (start - first) / self.bytes_per_s - time.monotonic()))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    lock = threading.Lock()
    sent = 0

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        # The head of an answer is small, and the next request waits for it.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


def main() -> None:
    Handler.file, Handler.sha256 = Path(sys.argv[1]), sys.argv[2]
    if len(sys.argv) > 3:
        Handler.latency_s, Handler.bytes_per_s = float(sys.argv[3]), float(sys.argv[4])
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    signal.signal(signal.SIGUSR1, lambda *_: print(Server.sent, flush=True))
    server.serve_forever()


if __name__ == "__main__":
    main()
