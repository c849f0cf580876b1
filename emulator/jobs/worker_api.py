"""The job plane as workers see it: the protocol of the `runpod` SDK's worker.

Source: runpod SDK 1.12.0, serverless/modules/{rp_job,rp_http,rp_ping,rp_scale}.py, run on loopback.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator.jobs.queue import FINAL, IN_PROGRESS, Job
from emulator.numbers import whole_number
from emulator.state import State
from emulator.workers.fleet import Worker
from emulator.workers.supervisor import Supervisor

NOTHING = 204
STOP_AGAIN_S = 1.0


def routes(state: State, supervisor: Supervisor) -> list[Route]:
    """Return the routes of the protocol."""
    protocol = Protocol(state, supervisor)

    def route(path: str, method: str, answer: Callable[[Request, Worker], Awaitable[Response]]) -> Route:
        async def endpoint(request: Request) -> Response:
            worker = state.fleet.workers.get(request.path_params["worker_id"])
            # The SDK sends the bare key, without a scheme.
            if worker is None or request.headers.get("authorization", "") != worker.key:
                return JSONResponse(
                    {"status": 401, "title": "Unauthorized", "detail": "invalid api key"}, 401
                )
            return await answer(request, worker)

        return Route("/{endpoint_id}" + path, endpoint, methods=[method])

    return [
        route("/job-take/{worker_id}", "GET", protocol.take),
        route("/job-take-batch/{worker_id}", "GET", protocol.take_batch),
        route("/job-stop/{worker_id}", "GET", protocol.stop),
        route("/ping/{worker_id}", "GET", protocol.ping),
        route("/job-done/{worker_id}/{job_id}", "POST", protocol.done),
        route("/job-stream/{worker_id}/{job_id}", "POST", protocol.stream),
    ]


class Protocol:
    """What a worker may say and be told."""

    def __init__(self, state: State, supervisor: Supervisor) -> None:
        self._state = state
        self._supervisor = supervisor

    async def take(self, request: Request, worker: Worker) -> Response:
        """Return one job, or 204 when none came while the request was held."""
        if request.query_params.get("job_in_progress") == "0":
            self._release(worker, *self._to_stop(worker))
            if worker.jobs:
                # The SDK counts none in progress: it was done with these, and its report did not arrive.
                self._supervisor.complaints.lost(worker)
        jobs = await self._next_jobs(worker, 1)
        return JSONResponse(jobs[0].for_worker()) if jobs else Response(status_code=NOTHING)

    async def take_batch(self, request: Request, worker: Worker) -> Response:
        """Return up to `batch_size` jobs as a list."""
        jobs = await self._next_jobs(worker, whole_number(request.query_params.get("batch_size", "1")) or 1)
        return JSONResponse([job.for_worker() for job in jobs]) if jobs else Response(status_code=NOTHING)

    async def _next_jobs(self, worker: Worker, count: int) -> list[Job]:
        state = self._state
        if not worker.ready:
            worker.ready, worker.idle_since = True, state.clock.now()
            state.wake()
        deadline = state.clock.real() + state.limits.job_take_hold_s
        process = worker.pid
        while not self._leaves(worker, process):
            jobs = state.jobs.take(worker.endpoint_id, worker.id, count)
            if jobs:
                worker.jobs |= {job.id for job in jobs}
                return jobs
            left = deadline - state.clock.real()
            if left <= 0:
                break
            await state.bells.wait(left, ("queue", worker.endpoint_id), ("stop", worker.id))
        return []

    def _leaves(self, worker: Worker, process: int | None) -> bool:
        """Tell whether a worker gets no more jobs: it is being stopped, of an older release, or dead."""
        endpoint = self._state.resources.endpoints.get(worker.endpoint_id)
        gone = worker.stopping or worker.pid != process or self._state.bells.closed
        return gone or endpoint is None or endpoint.version != worker.version

    async def stop(self, _: Request, worker: Worker) -> Response:
        """Tell a worker which of its jobs to drop."""
        bells, limits = self._state.bells, self._state.limits
        if worker.told_to_stop:
            # The SDK ignores the order when it has taken a job and not begun it: say it again, but slowly.
            await bells.wait(STOP_AGAIN_S, ("stop", worker.id))
        elif not self._to_stop(worker) and not worker.stopping:
            await bells.wait(limits.job_take_hold_s, ("stop", worker.id))
        worker.told_to_stop = self._to_stop(worker)
        if worker.told_to_stop:
            return JSONResponse({"jobsToStop": worker.told_to_stop})
        return Response(status_code=NOTHING)

    def _to_stop(self, worker: Worker) -> list[str]:
        """Return the jobs that a worker holds although they have ended or belong to another worker."""
        pending = (
            (job_id, self._state.jobs.get(worker.endpoint_id, job_id)) for job_id in sorted(worker.jobs)
        )
        return [
            job_id
            for job_id, job in pending
            if job is None or job.status != IN_PROGRESS or job.worker_id != worker.id
        ]

    async def ping(self, request: Request, worker: Worker) -> Response:
        """Hear that a worker lives, and which jobs it has; or that it found itself unfit."""
        named = request.query_params.get("job_id", "").split(",")
        self._release(worker, *(set(self._to_stop(worker)) - set(named)))
        for job_id in named:
            job = self._state.jobs.get(worker.endpoint_id, job_id)
            if job is not None and job.worker_id == worker.id:
                job.seen_at = self._state.clock.real()
        if request.query_params.get("status") == "unhealthy":
            worker.events.append(f"unhealthy: {request.query_params.get('reason', '')}")
        return JSONResponse({})

    async def done(self, request: Request, worker: Worker) -> Response:
        """Take progress or the end of a job."""
        body, job = await self._report(request, worker)
        if job is None:
            return JSONResponse({"status": 404, "title": "Not Found", "detail": "job not found"}, 404)
        if body is None:
            # The result is lost: the worker is done with the job and has no way to say more.
            self._release(worker, job.id)
            if job.worker_id == worker.id:
                self._state.jobs.lose(job)
            return JSONResponse({"status": 400, "title": "Bad Request", "detail": "payload too large"}, 400)
        self._state.jobs.report(job, worker.id, body)
        if job.status in FINAL and body.get("status") != "IN_PROGRESS":
            self._release(worker, job.id)
            worker.crashes = 0
        if body.get("stopPod"):
            self._supervisor.stop(worker)
        return JSONResponse({})

    async def stream(self, request: Request, worker: Worker) -> Response:
        """Take a chunk of a job's output."""
        body, job = await self._report(request, worker)
        if job is None or body is None:
            return JSONResponse({"status": 400, "title": "Bad Request", "detail": "no such job"}, 400)
        self._state.jobs.stream(job, worker.id, body.get("output"))
        return JSONResponse({})

    async def _report(self, request: Request, worker: Worker) -> tuple[dict[str, Any] | None, Job | None]:
        """Read a report: its body (None when it is too large) and its job (None when there is none)."""
        content = await request.body()
        job = self._state.jobs.get(worker.endpoint_id, request.path_params["job_id"])
        if len(content) > self._state.limits.output_body_bytes:
            return None, job
        body: dict[str, Any] = json.loads(content)
        if job is not None:
            job.seen_at = self._state.clock.real()
        return body, job

    def _release(self, worker: Worker, *job_ids: str) -> None:
        if not job_ids:
            return
        worker.jobs -= set(job_ids)
        worker.idle_since = self._state.clock.now()
        self._state.wake()
