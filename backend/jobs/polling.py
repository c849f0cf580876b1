"""Look at a job until it has ended; what a look is, the service's own module says."""

from collections.abc import Callable

from backend.errors import RateLimited, Unavailable, WaitTimeout
from backend.flow import Flow, Sleep
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
    start, trouble = clock(), ""
    while True:
        pause = 0.0
        try:
            status = yield from look()
            yield from on_status(status)
            if status.ended:
                return status
            trouble = ""
        except (RateLimited, Unavailable) as error:
            pause = getattr(error, "retry_after_s", None) or 0.0
            trouble = f"; the last answer was: {error.message}"
        waited = clock() - start
        if waited >= deadline_s:
            raise WaitTimeout(
                f"Job {job_id} did not end within {deadline_s:.4g} s{trouble or '.'}",
                job_id=job_id,
                hint=f"It lives on: backend.resume({job_id!r}).",
            )
        yield Sleep(min(max(pause, delay(waited)), deadline_s - waited))
