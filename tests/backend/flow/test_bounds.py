"""Bounds on what a server sends, and connections for what cannot be repeated: both drivers, real sockets."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ApiError, InvalidArgument, Unavailable
from backend.flow import Flow, Reply, Send, ask, send
from backend.flow.http_answers import MAX_ERROR_BYTES
from backend.flow.http_driver import ONCE_IDLE_S, AsyncHttp, Http
from backend.settings import Secret
from backend.validation.json_reader import MAX_BYTES
from tests.support.deadlines import HANG_S
from tests.support.small_server import Answer, Seen, serving


def run_sync(flow: Flow[Any]) -> Any:
    with Http() as http:
        return http.run(flow)


def run_async(flow: Flow[Any]) -> Any:
    async def main() -> Any:
        async with AsyncHttp() as http:
            return await http.run(flow)

    return asyncio.run(main())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[[Flow[Any]], Any]:
    runner: Callable[[Flow[Any]], Any] = request.param
    return runner


def gzipped(size_bytes: int) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(size_bytes >> 20)) + squeeze.flush()


@pytest.mark.slow
def test_a_few_kilobytes_that_are_gigabytes_are_refused(run):
    """Decoding stops at the bound of every answer."""
    bomb = gzipped(MAX_BYTES + (2 << 20))
    answer = Answer(200, bomb, {"content-encoding": "gzip"})
    with serving(lambda _: answer) as server, pytest.raises(ApiError, match="larger than 64 MiB"):
        run(send(Send("GET", server.url)))


def test_a_compressed_answer_is_read(run):
    body = zlib.compress(b'{"a": 1}', wbits=31)
    with serving(lambda _: Answer(200, body, {"content-encoding": "gzip"})) as server:
        reply: Reply = run(send(Send("GET", server.url)))

    assert reply.json() == {"a": 1}


def test_what_is_not_the_gzip_that_it_says_is_an_error(run):
    answer = Answer(200, b"plain", {"content-encoding": "gzip"})
    with serving(lambda _: answer) as server, pytest.raises(ApiError, match="not the gzip"):
        run(send(Send("GET", server.url)))


def test_no_more_of_an_error_is_read_than_is_shown(run):
    """The rest is left on the connection, which is closed."""
    with serving(lambda _: Answer(404, b"x" * (8 << 20))) as server:
        reply: Reply = run(send(Send("GET", server.url)))

        assert (reply.status, len(reply.content)) == (404, MAX_ERROR_BYTES)
        with pytest.raises(ApiError) as caught:
            run(ask(Send("GET", server.url), "Look"))
    assert len(str(caught.value)) < 1000


def test_deep_json_is_an_error_of_the_server(run):
    with serving(lambda _: Answer(200, b"[" * 300_000)) as server:
        reply: Reply = run(send(Send("GET", server.url)))

        with pytest.raises(Unavailable, match="nested too deeply"):
            reply.json()


def test_a_key_that_no_header_can_hold_is_named(run):
    """Without showing it."""
    with (
        serving(lambda _: Answer()) as server,
        pytest.raises(InvalidArgument, match="outside ASCII") as caught,
    ):
        run(send(Send("GET", server.url, key=Secret("schlüssel"))))

    assert "schl" not in str(caught.value)


@pytest.fixture
def connections() -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """A server that notes over which connection each request came, and keeps each one open."""
    seen: list[tuple[int, str]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(number: int, connection: socket.socket) -> None:
        with connection:
            while head := connection.recv(65536):
                seen.append((number, head.split()[0].decode()))
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    def accept() -> None:
        number = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(number, connection), daemon=True).start()
            number += 1

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    listener.close()


def test_what_cannot_be_repeated_goes_over_no_idle_connection(connections, monkeypatch):
    """One that was used a moment ago will do; one that a server may be closing just then will not."""
    url, seen = connections
    clock = time.monotonic
    with Http() as http:
        for method in ("GET", "GET"):
            http.send(Send(method, url))
        http.send(Send("POST", url, once=True))
        http.send(Send("POST", url, once=True))
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 1.2 * ONCE_IDLE_S)
        http.send(Send("POST", url, once=True))
        http.send(Send("GET", url))

    assert [method for _, method in seen] == ["GET", "GET", "POST", "POST", "POST", "GET"]
    numbers = [number for number, _ in seen]
    assert numbers[0] == numbers[1] == numbers[5]
    assert numbers[2] == numbers[3]
    assert len({numbers[0], numbers[2], numbers[4]}) == 3


@pytest.mark.slow
def test_requests_in_flight_are_bounded():
    """The rest waits; none is refused."""
    bound, lock, now, most = 24, threading.Lock(), [0], [0]
    code_bound = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({64 + 4 * bound},) * 2)"
    gate = threading.Event()

    def answer(_: Seen) -> Answer:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == bound:
                gate.set()
        gate.wait(HANG_S)
        with lock:
            now[0] -= 1
        return Answer(200, b"{}")

    program = f"""
{code_bound}
import asyncio, sys
from backend.flow.http_driver import AsyncHttp
from backend.flow import Send, send
async def main():
    async with AsyncHttp() as http:
        await asyncio.gather(*(http.run(send(Send("GET", sys.argv[1]))) for _ in range(100)))
asyncio.run(main())
print("done")
"""
    with serving(answer) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.url],
            cwd=Path(__file__).resolve().parents[3],
            capture_output=True,
            text=True,
        )

    assert done.stdout.strip() == "done", done.stderr[-2000:]
    assert most[0] == bound
