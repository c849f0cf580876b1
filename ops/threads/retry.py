"""How long to go on trying: one pace, one deadline, and what counts as headway."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from backend.errors import RateLimited, Unavailable
from backend.flow import Retry
from backend.flow.retry import call_again, wait_requested
from ops.threads.ordered_pool import pause

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How hard to try.

    Attributes:
        piece_bytes: what one request asks for.
        connections: requests at a time for one file. With `piece_bytes` they bound the memory, and what a
            killed process fetches a second time: the bytes that are under way. The rest is on the disk.
        silence_s: how long a connection may be silent before it counts as stalled.
        slowest_bytes_per_s: less than this over ``silence_s`` counts as stalled as well.
        deadline_s: for one file, all attempts together.
        retry: waits between attempts without headway.
    """

    piece_bytes: int = 4 * 1024 * 1024
    connections: int = 6
    silence_s: float = 30.0
    slowest_bytes_per_s: int = 4096
    deadline_s: float = 6 * 3600.0
    retry: Retry = field(default_factory=lambda: Retry(attempts=8, most_s=30.0))


PACE: Final = Pace()


class Patience:
    """The patience for one file, shared by the threads that fetch it.

    Args:
        pace: how hard to try.
        what: the file, to begin a sentence.
        clock: monotonic seconds.
    """

    def __init__(self, pace: Pace, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._what = what
        self._clock = clock
        self._end = clock() + pace.deadline_s

    def persist(
        self,
        attempt: Callable[[], R],
        *,
        wait: Callable[[float], object] = pause,
        headway: Callable[[], int] = lambda: 0,
    ) -> R:
        """Call until it succeeds, while it fails for a passing reason.

        Args:
            attempt: what to do; it goes on where the last one ended.
            wait: how to wait between attempts.
            headway: bytes so far; attempts are counted from the last one that got on.

        Raises:
            ApiError: the last failure, when patience is over; a lasting one at once.
        """
        try:
            return call_again(
                attempt,
                replace(self._pace.retry, budget_s=self._end - self._clock()),
                wait=wait,
                what=self._what,
                progress=headway,
                clock=self._clock,
            )
        except RateLimited as error:
            if error.hint is None and (wait_requested(error) or 0.0) > self._pace.retry.longest_retry_after_s:
                minutes = (wait_requested(error) or 0.0) / 60
                error.hint = f"The server asks to wait {minutes:.0f} minutes. Run it again then."
            raise

    def check_deadline(self) -> None:
        """Raise when the time for the whole file is over."""
        if self._clock() > self._end:
            raise Unavailable(f"{self._what} did not arrive within {self._pace.deadline_s:.0f} s.")

    def watch(self) -> "Watch":
        """Watch over one answer."""
        return Watch(self._pace, self._what, self._clock)


class Watch:
    """Notices a connection that gives just enough not to time out."""

    def __init__(self, pace: Pace, what: str, clock: Callable[[], float]) -> None:
        self._pace = pace
        self._what = what
        self._clock = clock
        self._since = clock()
        self._came = 0

    def saw(self, count: int) -> None:
        """Count bytes.

        Raises:
            Unavailable: too few of them came over the last while.
        """
        self._came += count
        elapsed = self._clock() - self._since
        if elapsed < self._pace.silence_s:
            return
        if self._came < self._pace.slowest_bytes_per_s * elapsed:
            raise Unavailable(f"{self._what} stalled: {self._came} bytes in {elapsed:.0f} s.")
        self._since, self._came = self._clock(), 0
