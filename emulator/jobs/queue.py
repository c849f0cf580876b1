"""Jobs: their states and the rules that move them. No HTTP, no processes.

Source: RunPod docs 2026-08-20 (serverless/endpoints/job-states, send-requests) and runpod SDK 1.12.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emulator.control.clock import Clock
from emulator.control.limits import Limits
from emulator.notifier import Bells

IN_QUEUE, IN_PROGRESS = "IN_QUEUE", "IN_PROGRESS"
COMPLETED, FAILED, CANCELLED, TIMED_OUT = "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"
FINAL = (COMPLETED, FAILED, CANCELLED, TIMED_OUT)
DEFAULT_EXECUTION_MS, DEFAULT_TTL_MS = 600_000, 86_400_000


@dataclass(slots=True)
class Job:
    """One job. Times are seconds since the epoch; `result` holds `output` and `error`, if there are any.

    Attributes:
        body: what was submitted: `input`, `webhook`, `policy`, `s3Config`.
        retain_s: how long the finished job can be asked for.
        seen_at: when its worker last took it or named it in a ping; real time, without what was skipped.
        chunks: what was streamed and not yet drained.
    """

    id: str
    endpoint_id: str
    body: dict[str, Any]
    retain_s: float
    timeout_s: float
    ttl_s: float
    created_at: float
    queued_at: float
    status: str = IN_QUEUE
    started_at: float | None = None
    finished_at: float | None = None
    seen_at: float = 0.0
    worker_id: str | None = None
    retries: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    chunks: list[Any] = field(default_factory=list)

    @property
    def low_priority(self) -> bool:
        """Whether it starts no worker by itself."""
        return bool(self.body.get("policy", {}).get("lowPriority"))

    def for_worker(self) -> dict[str, Any]:
        """Return what a worker is handed: RunPod leaves an empty input out, and passes everything else on."""
        extras = {name: value for name, value in self.body.items() if name != "input"}
        wish = {"input": self.body["input"]} if self.body["input"] else {}
        return {"id": self.id, **wish, **extras}

    def shown(self) -> dict[str, Any]:
        """Return the job as `/status` shows it."""
        document: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.started_at is not None:
            document["delayTime"] = round((self.started_at - self.queued_at) * 1000)
        if self.finished_at is not None and self.started_at is not None:
            document["executionTime"] = round((self.finished_at - self.started_at) * 1000)
        if self.worker_id is not None:
            document["workerId"] = self.worker_id
        if self.retries:
            document["retries"] = self.retries
        return dict(sorted((document | self.result).items()))


def split(chunk: Any, limit_bytes: int) -> list[Any]:
    """Split a streamed string at RunPod's limit, between two characters; any other value stays whole.

    How RunPod splits a value that is not a string is not documented.
    """
    if not isinstance(chunk, str) or len(content := chunk.encode("utf-8", "surrogatepass")) <= limit_bytes:
        return [chunk]
    pieces = []
    begin = 0
    while begin < len(content):
        end = min(begin + limit_bytes, len(content))
        while begin < end < len(content) and content[end] & 0xC0 == 0x80:  # within a character
            end -= 1
        if end == begin:  # one character is longer than the limit
            end = begin + limit_bytes
            while end < len(content) and content[end] & 0xC0 == 0x80:
                end += 1
        pieces.append(content[begin:end].decode("utf-8", "surrogatepass"))
        begin = end
    return pieces


class Jobs:
    """All jobs of the account.

    Bells: ("queue", endpoint id) when a job can be taken, ("job", job id) when one changes,
    ("stop", worker id) when a worker should drop a job, "tick" when workers may be needed.
    """

    def __init__(self, folder: Path, clock: Clock, limits: Limits, bells: Bells) -> None:
        self._folder = folder
        self._clock = clock
        self._limits = limits
        self._bells = bells
        self._jobs: dict[str, Job] = {}
        self._retried: dict[str, int] = {}
        self.on_final: list[Callable[[Job], None]] = []
        self.on_executed: list[Callable[[str, float, float], None]] = []
        """Called with a worker's id and the begin and end of its work on a job."""
        for path in sorted(folder.glob("*.json")):
            job = Job(**json.loads(path.read_text()))
            self._jobs[job.id] = job
        for job in self._jobs.values():
            if job.status == IN_PROGRESS:
                # Its worker died with the emulator that ran it.
                self.lose(job)

    def submit(
        self, endpoint_id: str, body: dict[str, Any], *, timeout_ms: int, sync: bool, wait_s: float = 0.0
    ) -> Job:
        """Queue a job."""
        policy = body.get("policy", {})
        retain_s = max(self._limits.runsync_retention_s, wait_s) if sync else self._limits.run_retention_s
        now = self._clock.now()
        job = Job(
            id=("sync-" if sync else "") + f"{uuid.uuid4()}-u1",
            endpoint_id=endpoint_id,
            body=body,
            retain_s=retain_s,
            timeout_s=policy.get("executionTimeout", timeout_ms or DEFAULT_EXECUTION_MS) / 1000,
            ttl_s=policy.get("ttl", DEFAULT_TTL_MS) / 1000,
            created_at=now,
            queued_at=now,
        )
        self._jobs[job.id] = job
        self._changed(job)
        return job

    def get(self, endpoint_id: str, job_id: str) -> Job | None:
        """Find a job of an endpoint that can still be asked for."""
        self.expire()
        job = self._jobs.get(job_id)
        return job if job is not None and job.endpoint_id == endpoint_id else None

    def of_endpoint(self, endpoint_id: str, *statuses: str) -> list[Job]:
        """Return an endpoint's jobs, oldest first, of some statuses (all when none is named)."""
        jobs = [job for job in self._jobs.values() if job.endpoint_id == endpoint_id]
        return sorted(
            (job for job in jobs if not statuses or job.status in statuses), key=lambda job: job.queued_at
        )

    def all(self) -> list[Job]:
        """Return all jobs."""
        return list(self._jobs.values())

    def take(self, endpoint_id: str, worker_id: str, count: int) -> list[Job]:
        """Hand the oldest queued jobs to a worker."""
        used = self.of_endpoint(endpoint_id, IN_QUEUE)[:count]
        for job in used:
            job.status, job.worker_id = IN_PROGRESS, worker_id
            job.started_at, job.seen_at = self._clock.now(), self._clock.real()
            job.result.clear()
            self._changed(job)
        return used

    def report(self, job: Job, worker_id: str, body: dict[str, Any]) -> None:
        """Take what a worker says of a job: progress, or its end. A job that has ended stays as it is."""
        if job.status != IN_PROGRESS or job.worker_id != worker_id:
            return
        if body.get("status") == IN_PROGRESS:
            # In memory only: progress is worth nothing after a crash.
            job.result["output"] = body.get("output")
            self._bells.ring(("job", job.id))
            return
        job.result = {name: body[name] for name in ("output", "error") if name in body}
        self._finish(job, FAILED if "error" in body else COMPLETED)

    def stream(self, job: Job, worker_id: str, chunk: Any) -> None:
        """Take a chunk that a worker streams."""
        if job.status == IN_PROGRESS and job.worker_id == worker_id:
            job.chunks += split(chunk, self._limits.stream_chunk_bytes)
            self._bells.ring(("job", job.id))

    def drain(self, job: Job) -> list[Any]:
        """Return the chunks that have not been read yet."""
        chunks, job.chunks = job.chunks, []
        return chunks

    def cancel(self, job: Job) -> None:
        """Cancel a job that has not ended; its worker is told to drop it."""
        if job.status not in FINAL:
            self._drop(job)
            self._finish(job, CANCELLED)

    def retry(self, job: Job) -> bool:
        """Queue a failed job again under its id; tell whether that was possible."""
        if job.status not in (FAILED, TIMED_OUT):
            return False
        self._requeue(job)
        return True

    def purge(self, endpoint_id: str) -> int:
        """Remove an endpoint's queued jobs; tell how many."""
        queued = self.of_endpoint(endpoint_id, IN_QUEUE)
        for job in queued:
            self._forget(job)
        return len(queued)

    def lose(self, job: Job) -> None:
        """Its worker is gone or silent: dispatch it again, and give up after that."""
        if job.status != IN_PROGRESS:
            return
        self._drop(job)
        if job.retries < self._limits.redispatch_limit:
            job.retries += 1
            self._retried[job.endpoint_id] = self._retried.get(job.endpoint_id, 0) + 1
            self._requeue(job)
            return
        job.result = {"error": f"job timed out after {job.retries} retries"}
        self._finish(job, FAILED)

    def drop_endpoint(self, endpoint_id: str) -> None:
        """Forget all jobs of an endpoint that is deleted."""
        for job in self.of_endpoint(endpoint_id):
            self._drop(job)
            self._forget(job)

    def health(self, endpoint_id: str) -> dict[str, int]:
        """Count an endpoint's jobs as `/health` does."""
        statuses = [job.status for job in self.of_endpoint(endpoint_id)]
        return {
            "completed": statuses.count(COMPLETED),
            "failed": statuses.count(FAILED) + statuses.count(TIMED_OUT),
            "inProgress": statuses.count(IN_PROGRESS),
            "inQueue": statuses.count(IN_QUEUE),
            "retried": self._retried.get(endpoint_id, 0),
        }

    def expire(self) -> None:
        """Do what time does: forget old and overdue jobs, end those that run too long."""
        now = self._clock.now()
        for job in list(self._jobs.values()):
            if job.finished_at is not None:
                if now > job.finished_at + job.retain_s:
                    self._forget(job)
            elif now > job.created_at + job.ttl_s:
                self._drop(job)
                self._forget(job)
            elif job.started_at is not None and now > job.started_at + job.timeout_s:
                self._drop(job)
                job.result = {"error": "job timed out"}
                self._finish(job, self._limits.timeout_status)

    def clear(self) -> None:
        """Forget everything."""
        jobs, self._jobs = self._jobs, {}
        self._retried.clear()
        for job in jobs.values():
            job.status = CANCELLED
            self._bells.ring(("job", job.id))

    def _worked(self, job: Job) -> None:
        """Tell that a worker's time on a job is over."""
        if job.status == IN_PROGRESS and job.worker_id is not None and job.started_at is not None:
            for callback in self.on_executed:
                callback(job.worker_id, job.started_at, self._clock.now())

    def _requeue(self, job: Job) -> None:
        self._worked(job)
        job.status, job.queued_at = IN_QUEUE, self._clock.now()
        job.started_at = job.finished_at = job.worker_id = None
        job.result, job.chunks = {}, []
        self._changed(job)

    def _finish(self, job: Job, status: str) -> None:
        self._worked(job)
        job.status, job.finished_at = status, self._clock.now()
        self._changed(job)
        for callback in self.on_final:
            callback(job)

    def _drop(self, job: Job) -> None:
        if job.status == IN_PROGRESS and job.worker_id is not None:
            self._bells.ring(("stop", job.worker_id))

    def _forget(self, job: Job) -> None:
        self._worked(job)
        del self._jobs[job.id]
        if job.status not in FINAL:
            # Nobody can ask for it any more, but somebody may be waiting for it.
            job.status = CANCELLED
        (self._folder / f"{job.id}.json").unlink(missing_ok=True)
        self._bells.ring(("job", job.id))

    def _changed(self, job: Job) -> None:
        path = self._folder / f"{job.id}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(job)))
        partial.replace(path)
        self._bells.ring(("job", job.id))
        if job.status == IN_QUEUE:
            self._bells.ring(("queue", job.endpoint_id))
        self._bells.ring("tick")
