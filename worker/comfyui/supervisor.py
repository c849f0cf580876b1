"""ComfyUI as a process of the worker: started at boot, watched, started again when it dies.

It starts in the background, so that a worker takes its first job while
ComfyUI still loads. What it prints is kept and quoted in errors. This module
knows nothing of jobs.
"""

import contextlib
import enum
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend.errors import ComfyformError
from worker.comfyui.exit_reason import death, quoted
from worker.comfyui.import_failures import ImportFailures
from worker.comfyui.import_times import ImportTimes
from worker.comfyui.log import ProcessLog
from worker.comfyui.probe import HOST, free_port, is_idle, system_stats

FIRST_POLL_S: Final = 0.05
POLL_S: Final = 0.5
STOP_S: Final = 10.0
BACKOFF_S: Final = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)
STEADY_S: Final = 60.0
"""A process that was ready for this long is forgiven its earlier deaths."""
HOPELESS_STARTS: Final = 3
"""So many deaths before ever being ready: jobs are told at once instead of waiting."""
LEASH: Final = Path(__file__).with_name("die_with_parent.py")


class ComfyUIDown(ComfyformError):
    """ComfyUI does not run, or died; the message quotes the end of its log."""


class State(enum.Enum):
    """What the process is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"


@dataclass(frozen=True, slots=True)
class Launch:
    """How ComfyUI is started.

    Attributes:
        command: program and its own arguments.
        arguments: what the worker adds, without the address.
        environment: all variables.
        folder: where it runs.
    """

    command: Sequence[str]
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


class ComfyUIProcess:
    """One ComfyUI, supervised by a thread of its own."""

    def __init__(self, launch: Launch, log: ProcessLog) -> None:
        self._launch = launch
        self._log = log
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._state = State.STOPPED
        self._url: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._deaths: list[str] = []
        self._recent = 0
        self._failed_starts = 0
        self._imports = ImportFailures()
        self._times = ImportTimes()
        self._ready_s: float | None = None
        # A daemon, because the leash kills the child when this thread ends: it lives as long as the worker.
        self._thread = threading.Thread(target=self._supervise, name="comfyui", daemon=True)

    @property
    def state(self) -> State:
        """What the process is doing now."""
        with self._changed:
            return self._state

    @property
    def deaths(self) -> tuple[str, ...]:
        """How it died, each time, as sentences."""
        with self._changed:
            return tuple(self._deaths)

    @property
    def pid(self) -> int | None:
        """Process id, where it runs."""
        with self._changed:
            return self._process.pid if self._process and self._lives() else None

    @property
    def url(self) -> str | None:
        """Address, where it is ready."""
        with self._changed:
            return self._url if self._state is State.READY else None

    @property
    def failed_imports(self) -> dict[str, str]:
        """Node packs and core extras that it could not import → the last line of the traceback."""
        with self._changed:
            return dict(self._imports.found)

    @property
    def start_times(self) -> dict[str, Any]:
        """Seconds until it answered, and of each node pack's import; empty before it answered once."""
        with self._changed:
            if self._ready_s is None:
                return {}
            return {"comfyui_s": self._ready_s, "imports_s": dict(self._times.found)}

    def log_tail(self, lines: int = 20) -> list[str]:
        """Return the last lines that it printed."""
        return self._log.tail(lines)

    def start(self) -> None:
        """Begin to start it, and return at once."""
        self._thread.start()

    def stop(self) -> None:
        """End it: politely, then for sure."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(STOP_S + 5)

    def wait_ready(self, deadline_s: float, cancelled: threading.Event) -> str:
        """Wait until it answers, and return its address.

        Args:
            deadline_s: how long to wait.
            cancelled: ends the wait early.

        Raises:
            ComfyUIDown: it did not become ready, died again and again, or the wait was cancelled.
        """
        end = time.monotonic() + deadline_s
        with self._changed:
            while not (self._state is State.READY and self._url and self._lives()):
                if self._failed_starts >= HOPELESS_STARTS:
                    raise self.down("ComfyUI does not start")
                if self._stopping.is_set() or cancelled.is_set():
                    raise ComfyUIDown("The job was stopped before ComfyUI was ready.")
                if time.monotonic() >= end:
                    raise self.down(f"ComfyUI was not ready after {deadline_s:.0f} s")
                self._changed.wait(min(POLL_S, max(0.0, end - time.monotonic())))
            return self._url

    def _lives(self) -> bool:
        """Tell whether the process runs now; its supervisor may not have seen its end yet."""
        return self._process is not None and self._process.poll() is None

    def settle(self, patience_s: float) -> None:
        """Wait until nothing runs any more; a ComfyUI that is still busy then, or silent, is restarted.

        After a run was given up, a node that ignores the interrupt would block every later job.
        """
        end_at = time.monotonic() + patience_s
        with self._changed:
            process, port = self._process, self._port
        while process is not None and process.poll() is None and not is_idle(port):
            if time.monotonic() >= end_at:
                self.kill("it does not stop")
                return
            self._stopping.wait(POLL_S)

    def kill(self, why: str) -> None:
        """End it at once; its supervisor starts another.

        Args:
            why: for the log.
        """
        with self._changed:
            process = self._process
        if process is not None and process.poll() is None:
            self._log.note(f"{why}: killed, to be started again")
            end(process, politely=False)

    def wait_death(self, known: int, patience_s: float) -> None:
        """Wait a moment for another death to be noticed than the ones that are known.

        Args:
            known: how many there were.
            patience_s: how long to wait at most.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._deaths) > known, patience_s)

    def down(self, what: str) -> ComfyUIDown:
        """Make the error of a ComfyUI that does not run, with how it died and the end of its log."""
        last = f": {self._deaths[-1]}" if self._deaths else ""
        return ComfyUIDown(f"{what}{last}.{quoted(self._log.printed(8))}")

    def _supervise(self) -> None:
        """Start, watch, start again, until stopped."""
        while not self._stopping.is_set():
            try:
                self._run_once()
            except OSError as error:
                self._died(f"it cannot be started: {error.strerror or error}", was_ready=False)
            pause = BACKOFF_S[min(self._recent, len(BACKOFF_S)) - 1] if self._recent else 0.0
            self._stopping.wait(pause)
        self._set(State.STOPPED)

    def _run_once(self) -> None:
        """Start it and stay with it until it ends."""
        port = free_port()
        command = [*self._launch.command, "--listen", HOST, "--port", str(port), *self._launch.arguments]
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(LEASH), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self._launch.environment),
            cwd=self._launch.folder,
            start_new_session=True,  # a Ctrl-C for the worker is not one for ComfyUI: the worker drains first
        )
        if process.stdout is None:
            raise OSError("no pipe")
        imports, times, begin = ImportFailures(), ImportTimes(), time.monotonic()

        def listen(line: str) -> None:
            imports.read(line)
            times.read(line)

        reader = self._log.drain(process.stdout, listen)
        with self._changed:
            self._process, self._port, self._imports, self._times = process, port, imports, times
        self._set(State.RESTARTING if self._deaths else State.STARTING)
        was_ready = self._await_ready(process, port)
        if was_ready:
            with self._changed:
                self._ready_s = round(time.monotonic() - begin, 3)
        started = time.monotonic()
        while process.poll() is None and not self._stopping.wait(FIRST_POLL_S):
            if self._recent and was_ready and time.monotonic() - started > STEADY_S:
                with self._changed:
                    self._recent = 0
        if self._stopping.is_set():
            end(process)
        reader.join(2)
        if not self._stopping.is_set():
            self._died(death(process.returncode, self._log.tail(40)), was_ready=was_ready)

    def _await_ready(self, process: subprocess.Popen[bytes], port: int) -> bool:
        """Ask until it answers; False when it ended first."""
        pause = FIRST_POLL_S
        while process.poll() is None and not self._stopping.is_set():
            if system_stats(port) is not None:
                with self._changed:
                    self._url = f"http://{HOST}:{port}"
                    self._failed_starts = 0
                self._set(State.READY)
                return True
            self._stopping.wait(pause)
            pause = min(pause * 1.5, POLL_S)
        return False

    def _died(self, sentence: str, *, was_ready: bool) -> None:
        self._log.note(f"ComfyUI ended: {sentence}")
        with self._changed:
            self._deaths.append(sentence)
            self._recent += 1
            self._failed_starts += 0 if was_ready else 1
        self._set(State.RESTARTING)

    def _set(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()


def end(process: subprocess.Popen[bytes], *, politely: bool = True) -> None:
    """End a process and what it started: SIGTERM, and SIGKILL when that is not enough."""
    ways: list[tuple[signal.Signals, float | None]] = [(signal.SIGTERM, STOP_S), (signal.SIGKILL, None)]
    for sign, patience_s in ways if politely else ways[1:]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return
