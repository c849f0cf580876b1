"""What a RunPod job is at one moment, and what its end means. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from backend.errors import ApiError, JobCancelled, JobError, JobExpired, JobFailed, NotFound, WaitTimeout

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
            id=str(body.get("id") or job_id),
            state=_STATES.get(str(body.get("status")), "UNKNOWN"),
            output=body.get("output"),
            error=body.get("error"),
            delay_s=_seconds(body.get("delayTime")),
            execution_s=_seconds(body.get("executionTime")),
            worker_id=body.get("workerId"),
        )


def _seconds(milliseconds: Any) -> float | None:
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None


def outcome(job: JobStatus) -> Any:
    """Give the output of a job that ended well.

    Raises:
        JobFailed, JobCancelled, JobExpired: it ended badly, each with its reason.
    """
    match job.state:
        case "COMPLETED":
            output = job.output
            if isinstance(output, Mapping) and output.get("status") == "error":
                raise _failed(job, output.get("error"), output)
            return output
        case "FAILED":
            output = job.output if isinstance(job.output, Mapping) else None
            raise _failed(job, job.error, output)
        case "CANCELLED":
            raise JobCancelled(f"Job {job.id} was cancelled.", job_id=job.id)
        case "TIMED_OUT":
            said = f": {words(job.error)}" if job.error else ""
            raise JobExpired(
                f"Job {job.id} timed out{said or ' before a worker finished it'}.",
                job_id=job.id,
                hint="Look at the endpoint's health: no worker may be free.",
            )
    raise JobError(f"Job {job.id} has not ended: it is {job.state}.", job_id=job.id)


def _failed(job: JobStatus, error: Any, output: Mapping[str, Any] | None) -> JobFailed:
    said = words(error) if error else "the worker gave no reason"
    hint = None
    # Source: RunPod's words when a worker took the job and was never heard of again, seen live (2026).
    if "timed out after" in said and "retries" in said:
        hint = "The worker died or ran past the endpoint's time-out. Its log in RunPod's console says which."
    return JobFailed(
        f"Job {job.id} failed: {said.rstrip('.')}.",
        job_id=job.id,
        hint=hint,
        worker_error=error if isinstance(error, str) else json.dumps(error),
        output=output,
    )


def words(error: Any) -> str:
    """Say a worker's error in a sentence.

    Source: the runpod SDK posts an exception as a JSON *string* with error_type, error_message and
        error_traceback; an ``error`` that a handler returned comes as it was.
    """
    if isinstance(error, str):
        try:
            parsed = json.loads(error)
        except ValueError:
            return error.strip()
        error = parsed if isinstance(parsed, dict) else error
    if isinstance(error, Mapping):
        message = str(error.get("error_message") or error.get("message") or "").strip()
        kind = str(error.get("error_type") or "").removeprefix("<class '").removesuffix("'>")
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
