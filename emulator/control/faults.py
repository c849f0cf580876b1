"""Faults: what goes wrong, on which request, how often, and until when. `server` carries them out."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import Any, Literal

from emulator.notifier import Bells


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        path: glob over the whole path (`/rest/v2/serverless/*`); `*` crosses slashes.
        method: only this method; None for any.
        skip: let so many matching requests pass first.
        times: how many requests are hit; 0 for every one.
        delay_s: wait before anything else, until the fault is taken back at the latest.
        status, body, headers: answer this instead of asking the plane. Other bodies than text go as JSON.
        cut: "before" closes the connection and nothing has happened, "after" closes it when the plane has
            acted and before it says so, a number closes it after so many bytes of the reply's body.
        stall: after so many bytes of the reply's body, wait `stall_s` before the rest, with the same end.
        corrupt: flip the bits of the reply's body byte at this offset.
        truncate: end the reply's body after so many bytes, with a matching Content-Length.
        die: "before" or "after" acting, the emulator kills itself with SIGKILL.
    """

    path: str
    method: str | None = None
    skip: int = 0
    times: int = 1
    delay_s: float = 0.0
    status: int | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: Literal["before", "after"] | int | None = None
    stall: int | None = None
    stall_s: float = 60.0
    corrupt: int | None = None
    truncate: int | None = None
    die: Literal["before", "after"] | None = None
    id: int = 0
    seen: int = 0
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is one that this fault is about."""
        return self.method in (None, method) and fnmatch.fnmatchcase(path, self.path)


class Faults:
    """The faults that are set, in order; the first that applies to a request wins."""

    def __init__(self, bells: Bells) -> None:
        self._bells = bells
        self._faults: list[Fault] = []
        self._last_id = 0

    def add(self, fault: Fault) -> Fault:
        """Set a fault and number it."""
        self._last_id += 1
        fault.id = self._last_id
        self._faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that hits this request, and count it."""
        for fault in self._faults:
            if not fault.matches(method, path) or (fault.times and fault.hits >= fault.times):
                continue
            fault.seen += 1
            if fault.seen > fault.skip:
                fault.hits += 1
                return fault
        return None

    async def hold(self, fault: Fault, seconds: float) -> None:
        """Hold a request that a fault has hit, until the time is over or the fault taken back."""
        if fault in self._faults:
            await self._bells.wait(seconds, ("fault", fault.id))

    def remove(self, fault_id: int) -> bool:
        """Take a fault back, and let go what it holds; tell whether it was there."""
        before = len(self._faults)
        self._faults = [fault for fault in self._faults if fault.id != fault_id]
        self._bells.ring(("fault", fault_id))
        return len(self._faults) < before

    def all(self) -> list[Fault]:
        """Return all of them, used up or not."""
        return list(self._faults)

    def clear(self) -> None:
        """Take all of them back."""
        for fault in self.all():
            self.remove(fault.id)


def globs_overlap(first: str, second: str) -> bool:
    """Tell whether some path matches both globs; only `*` is special. Used to catch misspelled patterns."""
    reachable = {(0, 0)}
    frontier = [(0, 0)]
    while frontier:
        i, j = frontier.pop()
        if i == len(first) and j == len(second):
            return True
        steps = set()
        a, b = first[i : i + 1], second[j : j + 1]
        if a == "*":
            steps |= {(i + 1, j)} | ({(i, j + 1)} if b else set())
        if b == "*":
            steps |= {(i, j + 1)} | ({(i + 1, j)} if a else set())
        if a and a == b:
            steps.add((i + 1, j + 1))
        frontier += steps - reachable
        reachable |= steps
    return False
