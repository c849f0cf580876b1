"""Look at a job until it has ended; what a look is, the service's own module says."""

from collections.abc import Callable

from backend.errors import RateLimited, Unavailable, WaitTimeout
from backend.flow import Flow, Sleep
from backend.job_status import JobStatus

Look = Callable[[], Flow[JobStatus]]


def wait_until_ended(
    look: Look,
    job_id: str,
    *,
    deadline_s: float,
    delay: Callable[[float], float],
    clock: Callable[[], float],
    on_status: Callable[[JobStatus], None],
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
            on_status(status)
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
