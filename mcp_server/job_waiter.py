"""Wait for jobs as long as a client is patient, and go on waiting after that.

A job outlives the call that started it: when the call's time is up, or its
client disconnects, the wait goes on here, so that the result is on this machine
before the client asks for it. Only a client that cancels the call ends the job
(`mcp_server.cancellation`). Ending the server ends the waits and not the jobs;
another server continues them by their handle.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Self

from backend.errors import ApiError, JobCancelled, WaitTimeout
from backend.verbs.result import GenerationResult

OnProgress = Callable[[Mapping[str, Any]], object]

HEARTBEAT_S: Final = 5.0
"""A sign of life at least this often: clients that reset their timeout on progress then never give up."""
PASSING: Final = (WaitTimeout, ApiError)
"""What ends a wait and not the job: waiting again may help."""
KEPT: Final = 100
"""Ended jobs that are remembered here; older ones are in the journal."""


class Watch:
    """A job that this process waits for.

    Attributes:
        job: its handle.
        verb, backend: what runs, where.
        is_job: True where the wait is the job: its backend keeps none, and it ends with this process.
    """

    def __init__(self, job: str, verb: str, backend: str, *, is_job: bool = False) -> None:
        self.job = job
        self.verb = verb
        self.backend = backend
        self.is_job = is_job
        self._started = time.monotonic()
        self._told = ["submitted"]
        self._changed = asyncio.Event()
        self._task: asyncio.Task[GenerationResult] | None = None

    def begin(self, wait: Callable[[OnProgress], Coroutine[Any, Any, GenerationResult]]) -> Self:
        """Start to wait in the background; gives itself."""
        self._task = asyncio.create_task(wait(self._hear), name=f"wait for {self.job}")
        # Whoever asks gets the exception; nobody asking is no reason for a complaint at the end.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self

    @property
    def said(self) -> str:
        """The last that it said of itself."""
        return self._told[-1]

    @property
    def ended(self) -> bool:
        """True when there is a result, or an error, to be had at once."""
        return self._task is not None and self._task.done()

    @property
    def gave_up(self) -> bool:
        """True when the wait ended without the job's end, so that waiting again may help."""
        if self._task is None or not self._task.done():
            return False
        error = None if self._task.cancelled() else self._task.exception()
        return self._task.cancelled() or isinstance(error, PASSING)

    async def result(
        self, patience_s: float, report: Callable[[str], Awaitable[None]]
    ) -> GenerationResult | None:
        """Wait for the result, reporting what the job says meanwhile; None when the time is up.

        Raises:
            ComfyformError: the job's own end, where that is an error.
        """
        assert self._task is not None  # noqa: S101  # begun by whoever made the watch
        end = time.monotonic() + patience_s
        heard = len(self._told)
        while True:
            # Without news the last is said again, as a sign of life.
            for sentence in self._told[heard:] or self._told[-1:]:
                await report(f"{self.verb}: {sentence} ({time.monotonic() - self._started:.0f} s)")
            heard = len(self._told)
            left = end - time.monotonic()
            if self._task.done() or left <= 0:
                break
            await self._something(min(left, HEARTBEAT_S))
        if not self._task.done():
            return None
        if self._task.cancelled():
            raise JobCancelled(f"The wait for {self.job} was ended.", job_id=self.job)
        return self._task.result()

    async def stop(self) -> None:
        """Stop waiting. The job itself goes on."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    async def _something(self, patience_s: float) -> None:
        """Wait until the job says something or ends, or the time is up."""
        assert self._task is not None  # noqa: S101  # as in `result`
        news = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({self._task, news}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    def _hear(self, event: Mapping[str, Any]) -> None:
        from ops.console.generation_progress import sentence_of

        said = sentence_of(event)
        if said and said != self.said:
            self._told.append(said)
            # Whoever waits holds the old event; the next news are another.
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()


class Watches:
    """The jobs that this process waits for, by handle."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}

    def get(self, job: str) -> Watch | None:
        """Return the watch of a job, if this process has one."""
        return self._watches.get(job)

    def add(self, watch: Watch) -> Watch:
        """Remember a watch, and forget the oldest that ended."""
        self._watches[watch.job] = watch
        ended = [job for job, known in self._watches.items() if known.ended]
        for job in ended[: max(0, len(ended) - KEPT)]:
            del self._watches[job]
        return watch

    async def stop(self) -> None:
        """Stop all waits."""
        await asyncio.gather(*(watch.stop() for watch in self._watches.values()))
