"""Look at a job until it has ended; what a look is, the service's own module says."""

from collections.abc import Callable

from backend.errors import ApiError, WaitTimeout
from backend.flow import Flow
from backend.flow.polling import poll
from backend.jobs.status import JobStatus

Look = Callable[[], Flow[JobStatus]]
OnStatus = Callable[[JobStatus], Flow[None]]
"""Is told each answer about a job; a flow, because it may write to the disk."""


class Absence:
    """A job or run that is not found, look after look: one "not found" between good answers means nothing.

    Args:
        looks: how many in a row are needed.
        seconds: over how long at least.
    """

    def __init__(self, *, looks: int = 4, seconds: float = 2.0) -> None:
        self._needed, self._seconds = looks, seconds
        self._looks = 0
        self._since = 0.0

    def confirmed(self, now: float) -> bool:
        """Count one more look that did not find it; True once there were enough, over long enough."""
        self._since = now if self._looks == 0 else self._since
        self._looks += 1
        return self._looks >= self._needed and now - self._since >= self._seconds


def wait_until_ended(
    look: Look,
    job_id: str,
    *,
    deadline_s: float,
    delay: Callable[[float], float],
    clock: Callable[[], float],
    on_status: OnStatus,
) -> Flow[JobStatus]:
    """Look at a job again and again. It goes on whatever happens here.

    A look that fails for a passing reason changes nothing about the job: the next one is later.

    Args:
        look: asks how the job is.
        job_id: of the job.
        deadline_s: seconds from now.
        delay: seconds waited so far → seconds until the next look.
        clock: monotonic seconds.
        on_status: is told each answer.

    Raises:
        WaitTimeout: the deadline passed.
    """

    def until_ended() -> Flow[JobStatus | None]:
        status = yield from look()
        yield from on_status(status)
        return status if status.ended else None

    def too_late(error: ApiError | None) -> WaitTimeout:
        trouble = f"; the last answer was: {error.message}" if error else "."
        return WaitTimeout(
            f"Job {job_id} did not end within {deadline_s:.4g} s{trouble}",
            job_id=job_id,
            hint=f"It lives on: backend.resume({job_id!r}).",
        )

    return poll(until_ended, deadline_s=deadline_s, delay=delay, clock=clock, too_late=too_late)
