"""Jobs, one by one: read, do, answer. Every failure is one sentence; a cancelled job stops its work."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from backend.errors import ComfyformError
from worker.jobs import messages
from worker.jobs.cancellation import StopSign
from worker.jobs.messages import Request
from worker.jobs.progress import ProgressReport

logger = logging.getLogger(__name__)

STOP_S: Final = 30.0
"""How long a cancelled job may take to end: ComfyUI stops at its next step."""

Tell = Callable[[Mapping[str, Any]], None]
Work = Callable[[Request, StopSign, Tell], Mapping[str, Any]]
"""Do a request in this thread and give its part of the answer."""
PostProgress = Callable[[Mapping[str, Any], Mapping[str, Any]], Awaitable[None]]
"""Post a job's progress: the job, what to say."""


class Handler:
    """What the SDK calls with each job."""

    def __init__(
        self,
        *,
        work: Work,
        version: str,
        jobs_at_once: int,
        post_progress: PostProgress | None,
    ) -> None:
        """Prepare to take jobs.

        Args:
            work: does a request.
            version: of this worker, named in every answer.
            jobs_at_once: how many jobs are taken at the same time.
            post_progress: sends progress to RunPod, or None if not wanted.
        """
        self._work = work
        self._version = version
        self._post_progress = post_progress
        self._threads = ThreadPoolExecutor(jobs_at_once, thread_name_prefix="job")

    async def handle(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job and return what RunPod should answer.

        Raises:
            asyncio.CancelledError: RunPod stopped the job; its work has ended.
        """
        action = "the job"
        try:
            request = messages.read(job)
            action = request.action
            start = time.monotonic()
            answer = await self._do(job, request)
            logger.info("job %s: %s took %.1f s", job.get("id"), action, time.monotonic() - start)
            return messages.success(request, self._version, answer)
        except ComfyformError as error:
            logger.warning("job %s: %s failed: %s", job.get("id"), action, error)
            return messages.failure(error, self._version, action)
        except Exception as error:  # the top of a job: a fault of ours must not take the worker down
            logger.exception("job %s: %s failed", job.get("id"), action)
            return messages.failure(error, self._version, action)

    async def _do(self, job: Mapping[str, Any], request: Request) -> Mapping[str, Any]:
        """Do the work in a thread, so that the worker still hears of cancellations, and report progress."""
        stop = StopSign()
        async with self._progress(job) as tell:
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._work, request, stop, tell)
            # An exception that nobody waits for any more would be printed with its traceback.
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                await asyncio.wait(
                    [work]
                )  # not a shield, which would report what is raised after a cancellation
                return work.result()
            except asyncio.CancelledError:
                logger.info("job %s: stopped", job.get("id"))
                stop.raised.set()
                # The next job needs what this one holds: ComfyUI, a file's lock.
                await asyncio.wait([work], timeout=STOP_S)
                raise

    @contextlib.asynccontextmanager
    async def _progress(self, job: Mapping[str, Any]) -> AsyncIterator[Tell]:
        """Yield what the work tells its progress to, and end it before the result is given back."""
        post = self._post_progress
        if post is None:
            yield _ignore
            return
        async with ProgressReport(lambda event: post(job, event)) as report:
            yield report.tell


def _ignore(_: Mapping[str, Any]) -> None:
    """Discard progress."""
