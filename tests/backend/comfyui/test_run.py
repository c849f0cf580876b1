"""Waiting for a run: by hand with a clock of our own, and a websocket that misbehaves."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from backend.comfyui.api import ComfyUI
from backend.comfyui.run import poll_delay, wait
from backend.comfyui.websocket_progress import Hint
from backend.errors import JobFailed, Unavailable, WaitTimeout
from backend.flow import Progress, Reply, Send, Sleep
from tests.support.deadlines import HANG_S

ID = "p"
ENDED = {ID: {"outputs": {}, "status": {"status_str": "success"}}}
Answers = Callable[[float, str], Any]


def play(answer: Answers, *, heard: Any = None, **options: Any) -> tuple[Any, list[Any], float]:
    """Wait for a run whose ComfyUI answers by time and path; return the end, the news and the seconds."""
    now = 0.0
    events: list[Any] = []
    inputs: dict[str, Any] = {"deadline_s": 600.0, "clock": lambda: now, "hint": lambda _: heard or {}}
    flow = wait(ComfyUI("http://c"), ID, **(inputs | options))
    reply: Any = None
    try:
        step = next(flow)
        while True:
            reply = None
            match step:
                case Sleep():
                    now += step.seconds
                case Progress():
                    events.append({name: value for name, value in step.event.items() if name != "prompt_id"})
                case Send():
                    reply = answer(now, step.url.removeprefix("http://c"))
            if isinstance(reply, Exception):
                step = flow.throw(reply)
            elif reply is None:
                step = flow.send(None)
            else:
                step = flow.send(
                    Reply(status=200, headers={}, content=json.dumps(reply).encode(), url="http://c")
                )
    except StopIteration as stop:
        return stop.value, events, now


def queue(running: tuple[str, ...] = (), pending: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "queue_running": [[0, prompt_id, {}, {}, []] for prompt_id in running],
        "queue_pending": [[number, prompt_id, {}, {}, []] for number, prompt_id in enumerate(pending)],
    }


def test_a_run_is_followed_through_the_queue():
    """Its place, that it runs, its end; the queue is looked at now and then only."""

    def answer(now: float, path: str) -> Any:
        if path != "/queue":
            return ENDED if now > 9 else {}
        return queue(running=("other",), pending=("next", ID)) if now < 4 else queue(running=(ID,))

    entry, message, took = play(answer)

    assert entry == ENDED[ID]
    assert message == [
        {"progress": "run", "state": "queued", "position": 2},
        {"progress": "run", "state": "running"},
    ]
    assert 9 < took < 11


def test_a_history_that_lags_is_no_loss():
    """For a moment a run is neither in the queue nor in the history."""
    entry, message, _ = play(lambda now, path: queue() if path == "/queue" else ENDED if now > 2 else {})

    assert (entry, message) == (ENDED[ID], [])


def test_a_run_that_a_restarted_comfyui_forgot_is_lost():
    """It is in neither for seconds: no time-out has to pass."""

    def answer(now: float, path: str) -> Any:
        if path != "/queue":
            return {}
        return queue(running=(ID,)) if now < 3 else queue()

    with pytest.raises(JobFailed, match="no longer knows the run"):
        play(answer)


def test_a_short_silence_is_waited_out():
    """A ComfyUI that a supervisor restarts may refuse connections for a while."""
    down = Unavailable("refused", sent=False)

    def answer(now: float, path: str) -> Any:
        if 1 < now < 5:
            return down
        return queue(running=(ID,)) if path == "/queue" else ENDED if now > 6 else {}

    assert play(answer)[0] == ENDED[ID]
    with pytest.raises(JobFailed, match="stopped answering in the middle"):
        play(lambda *_: Unavailable("refused", sent=False))


def test_the_deadline_is_kept_to_the_moment():
    """The last sleep is cut to it."""
    with pytest.raises(WaitTimeout, match=r"within 7\.5 s"):
        play(lambda _, path: queue(running=(ID,)) if path == "/queue" else {}, deadline_s=7.5)


def test_what_was_heard_is_told():
    """The websocket adds node and step; it also knows that a run has begun."""
    heard = {"node": "3", "value": 2, "max": 20}
    graph = {"3": {"class_type": "KSampler"}}

    def answer(now: float, path: str) -> Any:
        return queue() if path == "/queue" else ENDED if now > 1 else {}

    _, named, _ = play(answer, heard=heard, graph=graph)
    _, bare, _ = play(answer, heard=heard)

    news = {"progress": "run", "state": "running", **heard, "percent": 10}
    assert (named, bare) == ([{**news, "class_type": "KSampler"}], [news])


def test_polls_are_soon_then_seldom():
    """A quick run ends quickly; a long one is asked for once a second."""
    assert [poll_delay(waited) for waited in (0.0, 1.0, 600.0)] == [0.01, pytest.approx(0.05), 1.0]


# --- the websocket ------------------------------------------------------------


def text(message: Any, *, final: bool = True, code: int = 1) -> bytes:
    """A frame as a server sends it, unmasked."""
    content = message if isinstance(message, bytes) else json.dumps(message).encode()
    size = len(content)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    return bytes([(0x80 if final else 0) | code]) + length + content


def heard_from(frames: bytes, *, status: str = "101 Switching Protocols") -> tuple[Any, bytes, str]:
    """Listen to a server that sends these frames and hangs up; return what was heard, sent and asked."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        got: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                connection.sendall(f"HTTP/1.1 {status}\r\nUpgrade: websocket\r\n\r\n".encode() + frames)
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                while chunk := connection.recv(4096):
                    answer += chunk
                got.extend([request, answer])

        thread = threading.Thread(target=serve)
        thread.start()
        with Hint(f"http://127.0.0.1:{server.getsockname()[1]}/base", "me") as hint:
            thread.join(HANG_S)
            latest = hint.latest(ID)
    return latest, got[1], got[0].split(b"\r\n")[0].decode()


def test_progress_is_heard_among_everything_else():
    """Previews, pings, other people's runs, parts of messages and what has no prompt are all taken."""
    progress = json.dumps({"type": "progress", "data": {"prompt_id": ID, "node": "3", "value": 2, "max": 9}})
    frames = [
        text({"type": "status", "data": {"status": {}, "sid": "me"}}),
        text({"type": "executing", "data": {"node": "7"}}),
        text({"type": "executing", "data": {"node": "8", "prompt_id": "other"}}),
        text(bytes(60_000), code=2),
        text(progress[:20].encode(), final=False),
        text(b"hello", code=9),
        text(progress[20:].encode(), code=0),
        text({"type": "executing", "data": {"node": None, "prompt_id": ID}}),
    ]

    latest, answered, requested = heard_from(b"".join(frames))

    assert latest == {"node": "3", "value": 2, "max": 9}
    assert requested == "GET /base/ws?clientId=me HTTP/1.1"
    assert (answered[0], answered[1]) == (0x8A, 0x80 | 5)


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        (b"", "404 Not Found"),
        (b"\x81", "101 Switching Protocols"),
        (text(b"not json"), "101 Switching Protocols"),
        (text({"type": "progress", "data": {"prompt_id": ID, "node": "3"}}), "101 Switching Protocols"),
        (b"\x81\x7f" + struct.pack("!Q", 2**40), "101 Switching Protocols"),
    ],
    ids=["no websocket", "cut", "not JSON", "half a message", "endless"],
)
def test_a_websocket_that_misbehaves_is_no_matter(frames, status):
    """The hint ends, quietly; the run goes on."""
    assert heard_from(frames, status=status)[0] == {}


def test_no_server_is_no_matter():
    """Nobody has to listen."""
    with Hint("http://127.0.0.1:9", "me") as hint:
        assert hint.latest(ID) == {}
