"""Start a generation, and go on with one: what the generation tools and the job tool share."""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backend.errors import ComfyformError, NotFound
from backend.verbs.result import GenerationResult
from mcp_server import results
from mcp_server.cancellation import Submission
from mcp_server.job_waiter import OnProgress, Watch
from mcp_server.server_state import Studio
from mcp_server.spending import Costs, Price, past_jobs, question
from mcp_server.tool import Answer, Call

if TYPE_CHECKING:
    from backend.client.protocol import BackendFlows, ResumableFlows
    from backend.jobs.status import JobStatus
    from backend.verbs.request import Request

logger = logging.getLogger(__name__)

FREE: Final = "local"
"""The backend on which a job costs nothing."""
ENTRIES_READ: Final = 200
"""Newest entries of the journal among which jobs like a new one are looked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """A job that was submitted before, by whatever process.

    Attributes:
        verb: what it makes, or "generation" if unknown here.
        flows: the backend that has it.
        job: its id there.
    """

    verb: str
    flows: "ResumableFlows"
    job: str


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
    request = read(verb, params)
    check_is_one_job(flows, request)
    if flows.name != FREE:
        await call.agree(Costs.GPU, partial(_question, studio, flows.name, request))
    submission = studio.spawn(_begin(studio, flows, request))
    call.submitted(submission)
    return await answer(call, await asyncio.shield(submission))


async def answer(call: Call, watch: Watch) -> Answer:
    """Wait for a watched job and answer with its result, or with its handle."""
    result = await watch.result(call.patience_s, call.report)
    if result is None:
        return results.running(watch.verb, watch.job, watch.backend, watch.said)
    # In a thread: it reads the files.
    return await asyncio.to_thread(results.done, watch.verb, watch.job, result, call.studio.outputs)


async def watch_of(studio: Studio, job: str, backend: str | None = None) -> Watch:
    """Go on waiting for a job, also for one that another process submitted.

    Args:
        studio: the server's.
        job: a handle that a generation answered with, or the backend's own id of a job.
        backend: where it runs, for a job that this machine's journal does not know.

    Raises:
        NotFound: it is unknown here, and no backend was named.
        NotSupported: its backend keeps no jobs.
    """
    watch = _running(studio, job)
    if watch is not None:
        return watch
    found = await find(studio, job, backend)
    # Another call may have begun to wait for it meanwhile.
    return _running(studio, job) or _wait(studio, found)


async def find(studio: Studio, job: str, backend: str | None = None) -> Found:
    """Find out what a job makes and which backend has it; arguments and errors as for `watch_of`."""
    from backend.client.protocol import resumable

    entry = await asyncio.to_thread(studio.journal.find, job)
    if entry is not None:
        return Found(entry.verb or "generation", resumable(studio.flows(entry.backend)), entry.job_id or job)
    if backend is not None:
        return Found("generation", resumable(studio.flows(backend)), job)
    raise NotFound(
        f"Job {job!r} not found in this machine's journal.",
        hint='Call job with action "list" to list the known jobs, or name its backend.',
    )


async def cancel(studio: Studio, job: str, backend: str | None = None) -> Cancellation:
    """Stop waiting for a job and cancel it; arguments and errors as for `watch_of`.

    Raises:
        NotSupported: its backend cannot cancel.
    """
    watch = studio.watches.get(job)
    if watch is not None:
        ended = watch.ended
        await watch.stop()
        if watch.is_job:
            return Cancellation(watch.verb, watch.backend, not ended)
    found = await find(studio, job, backend)
    # RunPod says yes to whatever is cancelled, also to what ended long ago.
    status: JobStatus = await studio.run(found.flows.status(found.job))
    cancelled = not status.ended and await studio.run(found.flows.cancel(found.job))
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


async def _question(studio: Studio, backend: str, request: "Request") -> str:
    """Gather what the user should know before a job is paid for."""
    names = backend.split(",")  # a chain of backends is named after all of them
    price = Price(
        usd_per_hour=await studio.price.usd_per_hour() if "runpod" in names else None,
        usd_per_job_max=studio.settings.hedra_max_usd if "hedra" in names else None,
    )
    entries = await asyncio.to_thread(studio.journal.entries, ENTRIES_READ)
    history = past_jobs(entries, request.verb, names, price.usd_per_hour)
    audio_s = await asyncio.to_thread(_audio_s, request)
    return question(request, backend, price, history, audio_s=audio_s)


def _audio_s(request: "Request") -> float | None:
    """Measure the audio of a lip sync; None where it is not on this machine or its length is unknown."""
    from backend.files.audio_duration import duration_s

    audio = request.given.get("audio")
    return duration_s(audio) if isinstance(audio, Path) else None


def _running(studio: Studio, job: str) -> Watch | None:
    """Return the wait for a job that goes on here, or that has the job's end."""
    watch = studio.watches.get(job)
    return None if watch is None or watch.gave_up else watch


async def _begin(studio: Studio, flows: "BackendFlows", request: "Request") -> Watch:
    """Submit a job and begin to wait for it."""
    from backend.client.protocol import can_resume, resumable

    if not can_resume(flows):
        return _run_here(studio, flows, request)
    there = resumable(flows)
    job = await studio.run(there.submit(request, deadline_s=studio.settings.comfyform_timeout_s))
    return _wait(studio, Found(request.verb, there, job))


def _wait(studio: Studio, found: Found) -> Watch:
    """Wait for a job that its backend keeps."""

    async def wait(on_progress: OnProgress) -> GenerationResult:
        deadline_s = studio.settings.comfyform_timeout_s
        return await studio.run(found.flows.resume(found.job, deadline_s=deadline_s), on_progress)

    return studio.watches.add(Watch(found.job, found.verb, found.flows.name).begin(wait))


def _run_here(studio: Studio, flows: "BackendFlows", request: "Request") -> Watch:
    """Run a job that ends with this process, as its backend knows no other."""
    from backend.client.talk import perform

    async def wait(on_progress: OnProgress) -> GenerationResult:
        deadline_s = studio.settings.comfyform_timeout_s
        return await studio.run(perform(flows, request, deadline_s=deadline_s), on_progress)

    job = f"{flows.name}-{secrets.token_hex(6)}"
    return studio.watches.add(Watch(job, request.verb, flows.name, is_job=True).begin(wait))
