"""What a RunPod job is at one moment, and what its end means. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from backend.errors import (
    ApiError,
    InvalidJson,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    NotFound,
    WaitTimeout,
)
from backend.validation.json_reader import as_number, as_object, as_text, error_in, read_json
from backend.validation.printable import shortened, visible, without_secrets

MAX_WORKER_ERROR: Final = 20_000
"""Characters of a worker's own error that are kept: a traceback has some thousand."""

State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", "UNKNOWN"]

# Source: docs.runpod.io, serverless/endpoints/job-states (read 2026-08-20); RUNNING stands beside
# IN_PROGRESS in the SDKs.
_STATES: Final[Mapping[str, State]] = {
    "IN_QUEUE": "IN_QUEUE",
    "IN_PROGRESS": "IN_PROGRESS",
    "RUNNING": "IN_PROGRESS",
    "COMPLETED": "COMPLETED",
    "FAILED": "FAILED",
    "CANCELLED": "CANCELLED",
    "TIMED_OUT": "TIMED_OUT",
}
ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})


class UnreadableAnswer(InvalidJson):
    """RunPod's answers about a job cannot be read, one after the other.

    Attributes:
        content: the last one whole, to be kept: it may hold a result that is paid for.
    """

    content: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """One answer about a job.

    Attributes:
        output: the result when it is completed; the newest progress while it runs.
        error: what went wrong, as the worker or RunPod put it.
        delay_s, execution_s: time in the queue and on the worker, where RunPod says so.
    """

    id: str
    state: State
    output: Any = field(default=None, repr=False)
    error: Any = None
    delay_s: float | None = None
    execution_s: float | None = None
    worker_id: str | None = None

    @property
    def ended(self) -> bool:
        """True when nothing more will happen to it."""
        return self.state in ENDED

    @classmethod
    def from_json(cls, body: Mapping[str, Any], job_id: str = "") -> "JobStatus":
        """Read an answer of run, runsync or status. A state that RunPod invents later is UNKNOWN."""
        return cls(
            id=as_text(body.get("id")) or job_id,
            state=_STATES.get(as_text(body.get("status")), "UNKNOWN"),
            output=body.get("output"),
            error=body.get("error"),
            delay_s=_seconds(body.get("delayTime")),
            execution_s=_seconds(body.get("executionTime")),
            worker_id=as_text(body.get("workerId")) or None,
        )


def _seconds(milliseconds: Any) -> float | None:
    number = as_number(milliseconds)
    return None if number is None else number / 1000


def outcome(job: JobStatus) -> Any:
    """Return the output of a job that ended well.

    Raises:
        JobFailed, JobCancelled, JobExpired: it ended badly, each with its reason.
    """
    match job.state:
        case "COMPLETED":
            error = error_in(job.output)
            if error is None or _has_results(as_object(job.output)):
                return job.output
            raise _failed(job, error)
        case "FAILED":
            raise _failed(job, job.error or error_in(job.output))
        case "CANCELLED":
            raise JobCancelled(f"Job {job.id} was cancelled.", job_id=job.id)
        case "TIMED_OUT":
            reason = f": {words(job.error).rstrip('.')}" if job.error else " before a worker finished it"
            raise JobExpired(
                f"Job {job.id} timed out{reason}.",
                job_id=job.id,
                hint="Look at the endpoint's health: no worker may be free.",
            )
    raise JobError(f"Job {job.id} has not ended: it is {job.state}.", job_id=job.id)


def _has_results(output: Mapping[str, Any]) -> bool:
    """Tell whether an answer brings files beside its error, as worker-comfyui's does; they are delivered."""
    return output.get("status") == "success" or any(output.get(name) for name in ("files", "images"))


def _failed(job: JobStatus, error: Any) -> JobFailed:
    said = words(error) if error else "the worker gave no reason"
    hint = None
    # Source: RunPod's words when a worker took the job and was never heard of again, seen live (2026).
    if "timed out after" in said and "retries" in said:
        hint = "The worker died or ran past the endpoint's time-out. Its log in RunPod's console says which."
    return JobFailed(
        f"Job {job.id} failed: {said.rstrip('.')}.",
        job_id=job.id,
        hint=hint,
        worker_error=shortened(error if isinstance(error, str) else json.dumps(error), MAX_WORKER_ERROR),
        output=job.output if isinstance(job.output, Mapping) else None,
    )


def words(error: Any) -> str:
    """Say a worker's error in a sentence, shortened and without control characters.

    Source: the runpod SDK posts an exception as a JSON *string* with error_type, error_message and
        error_traceback; an ``error`` that a handler returned comes as it was.
    """
    return shortened(visible(without_secrets(_words(error)).strip()))


def _words(error: Any) -> str:
    if isinstance(error, str):
        if not error.lstrip().startswith("{"):
            return error
        try:
            parsed = read_json(error)
        except InvalidJson:
            return error
        error = parsed if isinstance(parsed, dict) else error
    if isinstance(error, list):
        return "; ".join(_words(item) for item in error[:10])
    if isinstance(error, Mapping):
        names = ("error_message", "message", "detail", "error")
        message = next((text for name in names if (text := as_text(error.get(name)).strip())), "")
        kind = as_text(error.get("error_type")).removeprefix("<class '").removesuffix("'>")
        kind = kind.rpartition(".")[2]
        if message and kind and kind not in ("Exception", "RuntimeError"):
            return f"{kind}: {message}"
        return message or kind or json.dumps(error)
    return str(error)


def gone(job_id: str, error: NotFound) -> JobExpired | NotFound:
    """The error of a job that RunPod does not know, told from an endpoint that it does not know."""
    if "endpoint" in error.body:
        return error
    return JobExpired(
        f"RunPod does not know job {job_id} (any more): it expired, or its result is no longer kept.",
        job_id=job_id,
        hint="Results are kept for 30 minutes (1 minute after /runsync).",
    )


def too_late(job_id: str, deadline_s: float, seen: JobStatus | None, trouble: ApiError | None) -> WaitTimeout:
    """The error of a deadline that passed."""
    state = f"it is {seen.state}" if seen else "it was never seen"
    because = f"; the last answer was: {trouble.message}" if trouble else "."
    return WaitTimeout(
        f"Job {job_id} did not end within {deadline_s:.4g} s: {state}{because}",
        job_id=job_id,
        hint=f"It lives on: backend.resume({job_id!r}).",
    )
