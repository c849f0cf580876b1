"""Several backends as one: the first that is healthy does the work."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from backend.client.protocol import BackendFlows, ResumableFlows, can_resume, resumable
from backend.client.talk import perform, submit
from backend.errors import ComfyformError, NotFound, NotSupported, Unavailable
from backend.flow import Flow, work
from backend.jobs.status import JobStatus
from backend.validation.checks import check_id
from backend.verbs.request import Request
from backend.verbs.result import GenerationResult, Health

T = TypeVar("T")
Do = Callable[[BackendFlows, float], Flow[T]]


class FallbackBackend:
    """Flows over a chain of backends.

    Each call asks the backends in turn how they are, and runs on the first that is healthy and can do
    the verb, with what is left of the deadline. A job that was accepted stays where it is: it is not
    paid for twice. A job that was submitted is found again by its id alone.
    """

    talks = True

    def __init__(self, chain: Sequence[BackendFlows], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.chain = tuple(chain)
        self._clock = clock
        self.name = ",".join(flows.name for flows in chain)

    def health_check(self) -> Flow[Health]:
        """Return the health of the first healthy one, else all their reasons."""
        reasons = []
        for flows in self.chain:
            health = yield from flows.health_check()
            if health.healthy:
                return health
            reasons.append(f"{flows.name}: {health.error}")
        return Health(backend=self.name, healthy=False, error="; ".join(reasons))

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        """Run a verb on the first healthy backend; its result says which that was.

        Raises:
            NotSupported: none of them can do the verb as asked.
            Unavailable: none took it.
        """

        def run(flows: BackendFlows, left_s: float) -> Flow[GenerationResult]:
            return perform(flows, request, deadline_s=left_s)

        return (yield from self._first(run, deadline_s))

    def submit(self, request: Request, *, deadline_s: float) -> Flow[str]:
        """Submit a job to the first healthy backend whose jobs live on, and return its id.

        Raises:
            NotSupported, Unavailable: as for `generate`.
        """

        def run(flows: BackendFlows, left_s: float) -> Flow[str]:
            return (yield from submit(flows, request, deadline_s=left_s))

        return (yield from self._first(run, deadline_s))

    def resume(
        self, job_id: str, *, deadline_s: float, output_path: Path | None = None
    ) -> Flow[GenerationResult]:
        """Wait for a job, on whichever backend it runs, and fetch its result.

        Raises:
            InvalidArgument: it is not an id.
            NotFound: none of them knows it.
            Unavailable: none that answered does.
        """
        flows = yield from self._holder(job_id)
        return (yield from flows.resume(job_id, deadline_s=deadline_s, output_path=output_path))

    def status(self, job_id: str) -> Flow[JobStatus]:
        """Ask how a job is; raises as `resume`."""
        flows = yield from self._holder(job_id)
        return (yield from flows.status(job_id))

    def cancel(self, job_id: str) -> Flow[bool]:
        """Cancel a job; False where none of them knows it (any more)."""
        try:
            flows = yield from self._holder(job_id)
        except NotFound:
            return False
        return (yield from flows.cancel(job_id))

    def _first(self, do: Do[T], deadline_s: float) -> Flow[T]:
        """Do something with the first healthy backend that can, in what is left of the time."""
        start, reasons, unable = self._clock(), [], 0
        for flows in self.chain:
            health = yield from flows.health_check()
            if not health.healthy:
                reasons.append(f"{flows.name}: {health.error}")
                continue
            left = max(0.0, deadline_s - (self._clock() - start))
            try:
                return (yield from do(flows, left))
            except NotSupported as error:
                unable += 1
                reasons.append(f"{flows.name}: {error}")
            except Unavailable as error:
                if error.sent:
                    raise
                reasons.append(f"{flows.name}: {error}")
        said = f"No backend can run this: {'; '.join(reasons)}"
        if unable == len(self.chain):
            raise NotSupported(said)
        raise Unavailable(said, sent=False)

    def _holder(self, job_id: str) -> Flow[ResumableFlows]:
        """Find the backend of a job: by what is written down here, else by asking each."""
        reasons, unsure = [], False
        check_id(job_id)
        for flows in self._resumable():
            journal = getattr(flows, "journal", None)
            entry = (yield from work(partial(journal.find, job_id))) if journal is not None else None
            if entry is not None and entry.backend == flows.name:
                return flows
        for flows in self._resumable():
            try:
                yield from flows.status(job_id)
            except ComfyformError as error:
                reasons.append(f"{flows.name}: {error.message}")
                unsure = unsure or error.retryable
            else:
                return flows
        said = f"Job {job_id} not found: {'; '.join(reasons) or 'none of the backends keeps jobs'}"
        raise Unavailable(said) if unsure else NotFound(said)

    def _resumable(self) -> Iterator[ResumableFlows]:
        return (resumable(flows) for flows in self.chain if can_resume(flows))
