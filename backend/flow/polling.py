"""Ask again and again until there is an answer: the one loop of all waits for a job, a run or a resource."""

from collections.abc import Callable
from typing import TypeAlias

from backend.errors import ApiError, ComfyformError
from backend.flow.retry import wait_requested
from backend.flow.steps import Flow, Sleep, T

PauseAfter: TypeAlias = Callable[[ApiError], float | None]
"""The error of a look → the least seconds until the next one, or None where the error ends the wait."""


def pause_if_passing(error: ApiError) -> float | None:
    """Go on after what may pass: as soon as the server's ``Retry-After`` allows."""
    return (wait_requested(error) or 0.0) if error.retryable else None


def poll(
    look: Callable[[], Flow[T | None]],
    *,
    deadline_s: float,
    delay: Callable[[float], float],
    clock: Callable[[], float],
    too_late: Callable[[ApiError | None], ComfyformError],
    pause_after: PauseAfter = pause_if_passing,
) -> Flow[T]:
    """Look until there is an answer. A look that fails for a passing reason changes nothing.

    Args:
        look: asks once; returns None while there is no answer.
        deadline_s: seconds from now. The last look begins when they are over.
        delay: seconds waited so far → seconds until the next look.
        clock: monotonic seconds.
        too_late: makes the error of a wait without an answer, given the error of the last look, or None.
        pause_after: what the error of a look means.
    """
    start = clock()
    while True:
        pause, trouble = 0.0, None
        try:
            answer = yield from look()
            if answer is not None:
                return answer
        except ApiError as error:
            least = pause_after(error)
            if least is None:
                raise
            pause, trouble = least, error
        waited = clock() - start
        if waited >= deadline_s:
            late = too_late(trouble)
            raise late from (None if late is trouble else trouble)
        yield Sleep(min(max(pause, delay(waited)), deadline_s - waited), trouble.message if trouble else "")
