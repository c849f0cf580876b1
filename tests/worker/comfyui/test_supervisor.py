"""ComfyUI as a child process: ready, dead, started again, and never left behind. With real processes."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from worker.comfyui import supervisor
from worker.comfyui.exit_reason import death
from worker.comfyui.log import ProcessLog
from worker.comfyui.supervisor import ComfyUIDown, ComfyUIProcess, Launch, State

PROGRAM = """
import http.server, os, sys, pathlib
folder = pathlib.Path(sys.argv[1])
starts = folder / "starts"
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (count + 1))
print("Total VRAM 24564 MB")
sys.stdout.flush()
if count < int(sys.argv[2]):
    print("Segmentation fault in libfoo")
    sys.exit(3)
print("x" * 300_000)
port = int(sys.argv[sys.argv.index("--port") + 1])
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"system": {"comfyui_version": "0.29.0"}, "devices": [], "queue_running": []}')
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a program that is like ComfyUI as far as its supervisor can tell, and end it afterwards."""
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0,))
    (tmp_path / "main.py").write_text(textwrap.dedent(PROGRAM))
    running = []

    def start(*, crashes=0, command=None):
        command = command or [sys.executable, str(tmp_path / "main.py"), str(tmp_path), str(crashes)]
        launch = Launch(command, ["--disable-metadata"], dict(os.environ), tmp_path)
        process = ComfyUIProcess(launch, ProcessLog(tmp_path / "log", echo_fd=None))
        running.append(process)
        process.start()
        return process

    yield start
    for process in running:
        process.stop()


def ready(process: ComfyUIProcess, deadline_s: float = 20) -> str:
    return process.wait_ready(deadline_s, threading.Event())


def alive(pid: int | None) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_becomes_ready_with_its_output_drained(start):
    """More output than a pipe holds must not block the program: its log goes to memory and a file."""
    process = start()

    url = ready(process)

    assert url.startswith("http://127.0.0.1:")
    assert process.state is State.READY
    assert "Total VRAM 24564 MB" in process.log_tail()


@pytest.mark.slow
def test_a_death_is_followed_by_a_new_start(start):
    """Killed as by the kernel, it comes back at a new address, and the reason is kept."""
    process = start()
    ready(process)
    first = process.pid

    os.kill(first, signal.SIGKILL)
    process.wait_death(0, 20)
    ready(process)

    assert [sentence.split(",")[0] for sentence in process.deaths] == ["it was killed (signal 9)"]
    assert process.pid != first


@pytest.mark.slow
def test_a_comfyui_that_hangs_is_started_anew(start):
    """Nothing can be asked of a process that stands still; the jobs to come need another one."""
    process = start()
    ready(process)
    first = process.pid

    os.kill(first, signal.SIGSTOP)
    process.settle(0.0)
    ready(process)

    assert process.pid != first


def test_one_that_is_idle_is_left_alone(start):
    """Its models stay in memory."""
    process = start()
    ready(process)
    first = process.pid

    process.settle(0.0)

    assert process.pid == first


@pytest.mark.slow
def test_one_crash_at_start_is_survived(start):
    """A first start may fail for a passing reason: a port taken, a driver still busy."""
    process = start(crashes=1)

    ready(process)

    assert process.deaths == ("it ended with exit code 3",)


@pytest.mark.slow
def test_a_program_that_never_starts_is_told_at_once(start):
    """After three deaths a job fails in a sentence that quotes the log, instead of waiting for minutes."""
    process = start(crashes=99)

    with pytest.raises(ComfyUIDown, match=r"does not start: it ended with exit code 3\..*Segmentation fault"):
        ready(process)


def test_a_program_that_is_missing_is_named(start):
    """The command is the operator's: a mistake in it must be readable."""
    process = start(command=["/nowhere/python", "main.py"])

    with pytest.raises(ComfyUIDown, match="/nowhere/python cannot be started"):
        ready(process)


def test_a_cancelled_wait_ends(start):
    """A job that is cancelled while ComfyUI loads does not wait on."""
    process = start(command=[sys.executable, "-c", "import threading; threading.Event().wait()"])
    cancelled = threading.Event()
    cancelled.set()

    with pytest.raises(ComfyUIDown, match="stopped before"):
        process.wait_ready(20, cancelled)


def test_stop_ends_the_program(start):
    """Nothing is left when the worker drains."""
    process = start()
    ready(process)
    pid = process.pid

    process.stop()

    assert not alive(pid)
    assert process.state is State.STOPPED


def test_it_does_not_outlive_a_worker_that_is_killed(tmp_path):
    """A ComfyUI left behind would hold the GPU's memory: the leash kills it with its parent."""
    script = (
        "import os, subprocess, sys\n"
        f"child = [sys.executable, '-S', '-E', {str(supervisor.LEASH)!r}, str(os.getpid())]\n"
        "child += [sys.executable, '-c', \"print('up', flush=True); import time; time.sleep(600)\"]\n"
        "process = subprocess.Popen(child, stdout=subprocess.PIPE, start_new_session=True)\n"
        "process.stdout.readline()\n"
        "print(process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        was_alive = alive(pid)
        worker.kill()
        worker.wait()
        gone = threading.Event()
        for _ in range(100):
            if not alive(pid):
                break
            gone.wait(0.05)

        assert was_alive
        assert not alive(pid)


@pytest.mark.parametrize(
    ("code", "tail", "says"),
    [
        (1, ["torch.OutOfMemoryError: Allocation on device"], "ran out of GPU memory"),
        (-9, [], "container ran out of memory"),
        (-11, [], "ended by SIGSEGV"),
        (3, ["bye"], "exit code 3"),
    ],
)
def test_a_death_is_explained(code, tail, says):
    """The lack of memory is named, and which memory."""
    assert says in death(code, tail)
