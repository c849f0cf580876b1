"""A backend without a journal of its own, such as a local ComfyUI, with its jobs in the user's journal."""

from pathlib import Path

from backend.client.protocol import BackendFlows, ResumableFlows, can_resume, resumable
from backend.client.talk import is_one_job
from backend.errors import ComfyformError
from backend.flow import Flow
from backend.jobs.journal import Journal
from backend.jobs.record import Record
from backend.jobs.status import JobStatus
from backend.verbs.request import Request
from backend.verbs.result import GenerationResult, Health
from mcp_server.job_waiter import PASSING


class JournaledBackend:
    """The flows of a backend; they touch the journal only within ``work``, so never on the event loop.

    Args:
        flows: of the backend.
        journal: where its jobs are written down.
    """

    def __init__(self, flows: ResumableFlows, journal: Journal) -> None:
        self.name = flows.name
        self.talks = is_one_job(flows)
        self.journal = journal
        self._flows = flows

    def health_check(self) -> Flow[Health]:
        """Tell whether it would take a job now."""
        return self._flows.health_check()

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        """Run a verb to its end, without an entry: the job ends with the call."""
        return self._flows.generate(request, deadline_s=deadline_s)

    def submit(self, request: Request, *, deadline_s: float) -> Flow[str]:
        """Write the job down, submit it and return its id."""
        record = yield from Record.begin(self.journal, request, "", backend=self.name, seed=None)
        return (yield from record.submitted(self._flows.submit(request, deadline_s=deadline_s)))

    def resume(
        self, job_id: str, *, deadline_s: float, output_path: Path | None = None
    ) -> Flow[GenerationResult]:
        """Wait for a job, fetch its result to the place that the journal names, and write down its end."""
        record = yield from Record.of(self.journal, job_id, "", backend=self.name)
        own_id = record.needed_id()
        place = output_path or (Path(record.entry.output_path) if record.entry.output_path else None)
        try:
            result = yield from self._flows.resume(own_id, deadline_s=deadline_s, output_path=place)
        except ComfyformError as error:
            if record.known and not isinstance(error, PASSING):
                yield from record.note(JobStatus(id=own_id, state="FAILED"))
                yield from record.ended(error)
            raise
        if record.known:
            yield from record.done(result)
        return result

    def status(self, job_id: str) -> Flow[JobStatus]:
        """Ask how a job is."""
        return self._flows.status(job_id)

    def cancel(self, job_id: str) -> Flow[bool]:
        """Cancel a job and write that down; False where it is not known (any more)."""
        cancelled = yield from self._flows.cancel(job_id)
        record = yield from Record.of(self.journal, job_id, "", backend=self.name)
        if cancelled and record.known:
            yield from record.note(JobStatus(id=job_id, state="CANCELLED"))
        return cancelled


def with_journal(flows: BackendFlows, journal: Journal) -> BackendFlows:
    """Return a backend whose jobs the journal keeps, as far as its jobs live on without the caller."""
    if not can_resume(flows) or hasattr(flows, "journal"):
        return flows
    return JournaledBackend(resumable(flows), journal)
