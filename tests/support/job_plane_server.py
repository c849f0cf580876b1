"""A job plane of a few lines, whose jobs end at once with a picture, and which counts what was paid for."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend import Settings
from tests.backend.runpod.test_job_outputs import DATA, PNG
from tests.support.small_server import Answer, Seen, serving


@dataclass
class PaidJobs:
    """The jobs that were taken, by id: the input of each.

    Attributes:
        before, after: called with each request, before and after it takes effect; may give another answer.
    """

    url: str = ""
    jobs: dict[str, Any] = field(default_factory=dict)
    before: Callable[[Seen], Answer | None] = lambda _: None
    after: Callable[[Seen], Answer | None] = lambda _: None
    by_address: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def env(self, folder: Path) -> dict[str, str]:
        return {
            "RUNPOD_API_KEY": "rpa_x",
            "RUNPOD_ENDPOINT_ID": "ep1",
            "RUNPOD_JOBS_URL": f"{self.url}/v2",
            "COMFYFORM_STATE_DIR": str(folder / "state"),
        }

    def settings(self, folder: Path) -> Settings:
        return Settings.from_env(self.env(folder))

    def keys(self) -> set[str]:
        """The journal keys that the jobs carry."""
        return {job["journal_key"] for job in self.jobs.values()}

    def answer(self, request: Seen) -> Answer:
        early = self.before(request)
        if early is not None:
            return early
        reply = self._answer(request)
        return self.after(request) or reply

    def _answer(self, request: Seen) -> Answer:
        if request.method == "POST" and request.path.endswith("/run"):
            with self._lock:
                job_id = f"job-{len(self.jobs)}"
                self.jobs[job_id] = json.loads(request.body)["input"]
            return json_answer({"id": job_id, "status": "IN_QUEUE"})
        if request.path.endswith("/requests"):
            return json_answer([{"id": job_id, "input": job} for job_id, job in self.jobs.items()])
        if request.path.startswith("/file/"):
            return Answer(200, PNG, {"content-type": "image/png"})
        job_id = request.path.partition("?")[0].rpartition("/")[2]
        if job_id not in self.jobs:
            return json_answer({"error": "job not found"}, 404)
        file = {"filename": f"{job_id}.png", "type": "image", "size_bytes": len(PNG)}
        where = {"url": f"{self.url}/file/{job_id}.png"} if self.by_address else {"data": DATA}
        return json_answer({"id": job_id, "status": "COMPLETED", "output": {"files": [file | where]}})


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"content-type": "application/json"})


@contextlib.contextmanager
def paid_jobs() -> Iterator[PaidJobs]:
    """Serve one within a `with`."""
    plane = PaidJobs()
    with serving(plane.answer) as server:
        plane.url = server.url
        yield plane
