"""What was asked of the emulator, in order: tests read it to prove what a client sent."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol


class HasNow(Protocol):
    """Anything that tells the time."""

    def now(self) -> float:
        """Return seconds since the epoch."""


@dataclass(slots=True)
class LoggedRequest:
    """One request.

    Attributes:
        status: None while it is under way, and 0 when the connection was cut instead.
        sent_bytes: of the answer's body, as far as they were handed to the connection.
    """

    number: int
    time: float
    method: str
    path: str
    query: str
    plane: str
    status: int | None = None
    seconds: float | None = None
    fault: str | None = None
    sent_bytes: int = 0


class RequestLog:
    """The latest requests, oldest first; those to `/_emulator` are not logged."""

    def __init__(self, clock: HasNow, keep: int = 20_000) -> None:
        self._clock = clock
        self._entries: deque[LoggedRequest] = deque(maxlen=keep)
        self._count = 0

    def start(self, method: str, path: str, query: str) -> LoggedRequest:
        """Note a request as it arrives."""
        self._count += 1
        plane = path.split("/", 2)[1] if "/" in path else ""
        entry = LoggedRequest(self._count, self._clock.now(), method, path, query, plane)
        self._entries.append(entry)
        return entry

    def finish(self, entry: LoggedRequest, status: int, fault: str | None) -> None:
        """Note how a request ended."""
        entry.status, entry.fault = status, fault
        entry.seconds = round(self._clock.now() - entry.time, 6)

    def find(self, method: str | None = None, path_glob: str | None = None) -> list[dict[str, Any]]:
        """Return the requests of a method (any when None) whose path matches a glob; `*` crosses slashes."""
        return [
            dataclasses.asdict(entry)
            for entry in self._entries
            if (method is None or entry.method == method.upper())
            and (path_glob is None or fnmatch.fnmatchcase(entry.path, path_glob))
        ]

    def clear(self) -> None:
        """Forget all of it; numbers go on."""
        self._entries.clear()
