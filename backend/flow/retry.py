"""When to try again, and how long to wait before: the policy of all calls, and its driver for plain ones.

The decision is pure and apart from the waiting, because a flow yields its waits and a thread sleeps them:
`backend.flow.steps.persist` is the driver for flows, `call_again` the one for plain functions.
"""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from backend.errors import ComfyformError, Unavailable

logger = logging.getLogger(__name__)

R = TypeVar("R")

PROGRESS_BYTES: Final = 64 * 1024
"""Fewer bytes than this do not count as progress, so that retries end when a server keeps disconnecting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often to try again, and how long to wait before. Pure.

    Attributes:
        attempts: all of them, with the first.
        first_s, most_s: the first wait, and the longest; each is twice the one before, with jitter.
        budget_s: no attempt begins later than this after the first one.
        longest_retry_after_s: a server that asks for a longer wait is asked again after this one.
    """

    attempts: float = 6
    first_s: float = 0.25
    most_s: float = 10.0
    jitter: Callable[[], float] = random.random
    budget_s: float = math.inf
    longest_retry_after_s: float = 60.0

    def next_delay(self, attempt: int, retry_after_s: float | None = None) -> float | None:
        """Tell how long to wait after the given failed attempt.

        Args:
            attempt: 1 for the first.
            retry_after_s: what the server asked for; honored as a minimum, up to ``longest_retry_after_s``.

        Returns:
            Seconds, or None to give up.
        """
        if attempt >= self.attempts:
            return None
        return max(self.backoff(attempt), min(retry_after_s or 0.0, self.longest_retry_after_s))

    def backoff(self, attempt: int) -> float:
        """Tell how long to wait after so many failures in a row: doubling, with jitter, bounded."""
        doubled = self.first_s * 2.0 ** min(attempt - 1, 20)
        return min(self.most_s, doubled) * (0.5 + self.jitter() / 2)


RETRY: Final = Retry()

When: TypeAlias = Callable[[Any], bool | Retry]
"""An error → False if it is final, True if it may pass, or the policy for errors of its kind."""


def may_pass(error: ComfyformError) -> bool:
    """Tell whether an error's class promises that another attempt may succeed."""
    return error.retryable


def was_not_taken(error: ComfyformError) -> bool:
    """Tell whether a request that must not arrive twice may be sent again: certainly none has arrived."""
    return error.retryable and not (isinstance(error, Unavailable) and error.sent)


def wait_requested(error: ComfyformError) -> float | None:
    """The seconds that a server asked to wait (``Retry-After``), or None."""
    seconds: float | None = getattr(error, "retry_after_s", None)
    return seconds


class Attempts:
    """The failed attempts of one operation, counted against a policy.

    Args:
        retry: the policy.
        when: which errors are worth another attempt.
        progress: bytes so far. Attempts are counted from the last one that got further.
        clock: monotonic seconds, for the budget.
    """

    def __init__(
        self,
        retry: Retry = RETRY,
        *,
        when: When = may_pass,
        progress: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retry = retry
        self._when = when
        self._progress = progress
        self._clock = clock
        self._start = clock()
        self._failures = 0
        self._bytes = progress() if progress else 0
        self._sent = False

    def delay_after(self, error: ComfyformError) -> float:
        """Count a failed attempt, and tell how many seconds to wait before the next.

        Raises:
            ComfyformError: the error itself, after the last attempt.
        """
        policy = self._when(error)
        if isinstance(error, Unavailable):
            # One attempt that may have arrived is enough for the whole not to be "never sent".
            error.sent = self._sent = self._sent or error.sent
        if policy is False:
            raise error
        retry = self._retry if policy is True else policy
        self._failures += 1
        if self._progress is not None:
            before, self._bytes = self._bytes, self._progress()
            if self._bytes - before >= PROGRESS_BYTES:
                self._failures = 1
        delay = retry.next_delay(self._failures, wait_requested(error))
        if delay is None or self._clock() - self._start + delay > retry.budget_s:
            raise error
        return delay


def call_again(
    function: Callable[[], R],
    retry: Retry = RETRY,
    *,
    wait: Callable[[float], object],
    what: str,
    when: When = may_pass,
    progress: Callable[[], int] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> R:
    """Call a plain function that may safely be repeated, again while it fails for a passing reason.

    Args:
        function: one attempt.
        wait: how to wait, given seconds.
        what: begins the line in the log.
        retry, when, progress, clock: as for `Attempts`.
    """
    attempts = Attempts(retry, when=when, progress=progress, clock=clock)
    while True:
        try:
            return function()
        except ComfyformError as error:
            delay = attempts.delay_after(error)
            logger.info("%s: trying again in %.1f s: %s", what, delay, error.message)
        wait(delay)
