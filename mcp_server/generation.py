"""Start a generation, and go on with one: what the generation tools and the job tool share."""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backend.errors import ComfyformError, NotFound
from backend.verbs.result import GenerationResult
from mcp_server import results
from mcp_server.cancellation import Submission
from mcp_server.job_waiter import PASSING, OnProgress, Watch
from mcp_server.server_state import Studio
from mcp_server.spending import Costs
from mcp_server.tool import Answer, Call

if TYPE_CHECKING:
    from backend.client.protocol import BackendFlows, ResumableFlows
    from backend.jobs.journal import Entry
    from backend.jobs.status import JobStatus
    from backend.verbs.request import Request

logger = logging.getLogger(__name__)

FREE: Final = "local"
"""The backend on which a job costs nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """A job that was submitted before, by whatever process.

    Attributes:
        verb: what it makes, or "generation" if unknown here.
        flows: the backend that has it.
        job: its id there.
        entry: what the journal says of it, or None.
    """

    verb: str
    flows: "ResumableFlows"
    job: str
    entry: "Entry | None" = None


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of the request to cancel a job.

    Attributes:
        verb, backend: what the job makes, and where.
        cancelled: False where it had ended before, or is not known (any more).
    """

    verb: str
    backend: str
    cancelled: bool


async def start(call: Call, verb: str, params: Mapping[str, Any]) -> Answer:
    """Submit a job and wait for it as long as the caller is patient.

    Args:
        call: the call; its ``backend`` and ``timeout_s`` say where and how long.
        verb: what to make.
        params: the verb's arguments.

    Raises:
        NotConfirmed: whoever pays does not want it.
        NotSupported: the verb is ``talk``, and the backend has no one job for it.
        ComfyformError: an argument is wrong, the job was not taken, or it failed within the time.
    """
    from backend.client.talk import check_is_one_job
    from backend.verbs.request import read

    studio = call.studio
    flows = studio.flows(call.arguments.get("backend"))
    # Checked as the backend will, before anybody is asked for money.
    request = read(verb, params)  # type: ignore[arg-type]  # the tools' verbs are the backend's
    check_is_one_job(flows, request)
    if flows.name != FREE:
        await call.agree(Costs.GPU, f"Run {verb} on {flows.name}? It costs {Costs.GPU.value}.")
    submission = studio.spawn(_begin(studio, flows, request))
    call.submitted(submission)
    return await answer(call, await asyncio.shield(submission))


async def answer(call: Call, watch: Watch) -> Answer:
    """Wait for a watched job and answer with its result, or with its handle."""
    result = await watch.result(call.patience_s, call.report)
    if result is None:
        return results.running(watch.verb, watch.job, watch.backend, watch.said)
    return results.done(watch.verb, watch.job, result, call.studio.outputs)


def watch_of(studio: Studio, job: str, backend: str | None = None) -> Watch:
    """Go on waiting for a job, also for one that another process submitted.

    Args:
        studio: the server's.
        job: a handle that a generation answered with, or the backend's own id of a job.
        backend: where it runs, for a job that this machine's journal does not know.

    Raises:
        NotFound: it is unknown here, and no backend was named.
        NotSupported: its backend keeps no jobs.
    """
    watch = studio.watches.get(job)
    if watch is not None and not watch.gave_up:
        return watch
    return studio.watches.add(_waiting(studio, find(studio, job, backend)))


def find(studio: Studio, job: str, backend: str | None = None) -> Found:
    """Find out what a job makes and which backend has it; arguments and errors as for `watch_of`."""
    from backend.client.protocol import resumable

    entry = studio.journal.find(job)
    if entry is None and backend is None:
        raise NotFound(
            f"Job {job!r} not found in this machine's journal.",
            hint='Call job with action "list" to list the known jobs, or name its backend.',
        )
    flows = resumable(studio.flows(entry.backend if entry else backend))
    if entry is None:
        return Found("generation", flows, job)
    return Found(entry.verb or "generation", flows, entry.job_id or job, entry)


async def cancel(studio: Studio, job: str, backend: str | None = None) -> Cancellation:
    """Stop waiting for a job and cancel it; arguments and errors as for `watch_of`.

    Raises:
        NotSupported: its backend cannot cancel.
    """
    watch = studio.watches.get(job)
    ended = watch is not None and watch.ended
    if watch is not None:
        await watch.stop()
    if watch is not None and studio.journal.find(job) is None:
        # Its backend knew it only as the call that went on here.
        return Cancellation(watch.verb, watch.backend, not ended)
    found = find(studio, job, backend)
    # RunPod says yes to whatever is cancelled, also to what ended long ago.
    status: JobStatus = await studio.run(found.flows.status(found.job))
    cancelled = not status.ended and await studio.run(found.flows.cancel(found.job))
    if cancelled and found.entry is not None:
        studio.journal.write(found.entry, state="CANCELLED")
    return Cancellation(found.verb, found.flows.name, cancelled)


async def cancel_submission(studio: Studio, submission: Submission) -> None:
    """Cancel the job of a call that its client cancelled, as soon as it is submitted. Raises nothing."""
    try:
        watch = await submission
    except ComfyformError as error:
        logger.info("A call was cancelled, and its job was not submitted: %s", error.message)
        return
    try:
        await cancel(studio, watch.job, watch.backend)
    except ComfyformError as error:
        logger.warning("A call was cancelled, and its job %s goes on: %s", watch.job, error)


async def _begin(studio: Studio, flows: "BackendFlows", request: "Request") -> Watch:
    """Submit a job and begin to wait for it."""
    from backend.client.protocol import can_resume, resumable

    if not can_resume(flows):
        return studio.watches.add(_here(studio, flows, request))
    return studio.watches.add(_waiting(studio, await _submit(studio, resumable(flows), request)))


async def _submit(studio: Studio, flows: "ResumableFlows", request: "Request") -> Found:
    """Submit a job, and see to it that the journal knows it."""
    from backend.jobs.record import for_journal

    deadline_s = studio.settings.comfyform_timeout_s
    if hasattr(flows, "journal"):
        job = await studio.run(flows.submit(request, deadline_s=deadline_s))
        return Found(request.verb, flows, job, studio.journal.find(job))
    entry = studio.journal.begin(
        request.verb,
        "",
        seed=None,
        output_path=request.output_path,
        params=for_journal(request),
        backend=flows.name,
    )
    try:
        job = await studio.run(flows.submit(request, deadline_s=deadline_s))
    except ComfyformError as error:
        studio.journal.write(entry, state="NOT_SUBMITTED", error=str(error))
        raise
    return Found(request.verb, flows, job, studio.journal.write(entry, job_id=job, state="IN_QUEUE"))


def _waiting(studio: Studio, found: Found) -> Watch:
    """Wait for a job that its backend keeps, and write down how it ended where the backend does not."""
    place = found.entry.output_path if found.entry else None
    own = found.entry if not hasattr(found.flows, "journal") else None

    async def wait(on_progress: OnProgress) -> GenerationResult:
        deadline_s = studio.settings.comfyform_timeout_s
        flow = found.flows.resume(
            found.job, deadline_s=deadline_s, output_path=Path(place) if place else None
        )
        try:
            result = await studio.run(flow, on_progress)
        except ComfyformError as error:
            if own is not None and not isinstance(error, PASSING):
                studio.journal.write(own, state="FAILED", error=str(error))
            raise
        if own is not None:
            studio.journal.write(own, state="COMPLETED", result=result.to_json())
        return result

    return Watch(found.job, found.verb, found.flows.name).begin(wait)


def _here(studio: Studio, flows: "BackendFlows", request: "Request") -> Watch:
    """Run a job that ends with this process, as its backend knows no other."""
    from backend.client.talk import perform

    async def wait(on_progress: OnProgress) -> GenerationResult:
        deadline_s = studio.settings.comfyform_timeout_s
        return await studio.run(perform(flows, request, deadline_s=deadline_s), on_progress)

    return Watch(f"{flows.name}-{secrets.token_hex(6)}", request.verb, flows.name).begin(wait)
