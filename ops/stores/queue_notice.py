"""Tells whoever waits that no worker has taken a job yet: else a cold start looks as if nothing happened."""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

_QUIET_S: Final = 5.0
"""How long a job may lie in the queue without a word: a warm worker takes it sooner."""


class QueueWatch:
    """Hears how jobs of one endpoint stand, and speaks once when none of them is taken for a while.

    Jobs that wait behind another one are not reported. Safe to share between threads; used within a ``with``.

    Args:
        say: where to.
        quiet_s: how long to wait before speaking.
    """

    def __init__(self, say: Callable[[str], object], *, quiet_s: float = _QUIET_S) -> None:
        self._say = say
        self._quiet_s = quiet_s
        self._lock = threading.Lock()
        self._queued: set[str] = set()
        self._running: set[str] = set()
        self._timer: threading.Timer | None = None
        self._said = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._said = True
            self._cancel()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Hear of a job: an event of ``backend.runpod.job_api`` with its ``job_id`` and ``state``."""
        job, state = str(event["job_id"]), event["state"]
        with self._lock:
            for name, jobs in (("IN_QUEUE", self._queued), ("IN_PROGRESS", self._running)):
                jobs.discard(job)
                if state == name:
                    jobs.add(job)
            if self._said or self._running or not self._queued:
                self._cancel()
            elif self._timer is None:
                self._timer = threading.Timer(self._quiet_s, self._speak)
                self._timer.daemon = True
                self._timer.start()

    def _speak(self) -> None:
        with self._lock:
            if self._said or self._running or not self._queued:
                return
            self._said = True
        self._say(
            "Waiting for a worker: one starts from cold, or RunPod has none free. Ctrl-C ends the wait."
        )

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
