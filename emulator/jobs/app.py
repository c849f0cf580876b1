"""The job plane as its clients see it: run, runsync, status, stream, cancel, retry, purge-queue, health.

Source: RunPod docs 2026-08-20, serverless/endpoints; error bodies as observed on the service.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator.jobs import worker_api
from emulator.jobs.queue import FINAL, Job
from emulator.jobs.webhooks import Webhooks
from emulator.numbers import whole_number
from emulator.state import Endpoint, State
from emulator.workers.supervisor import Supervisor

DOCUMENTED_RATES = {
    "run": (1000, 200),
    "runsync": (2000, 400),
    "status": (2000, 400),
    "stream": (2000, 400),
    "cancel": (100, 20),
    "purge-queue": (2, None),
}
"""Operation → requests in 10 s, and requests at a time, for each endpoint.

Source: RunPod docs 2026-08-20, serverless/endpoints/send-requests, "Rate limits". There the limits grow with
the running workers, by an amount that is not documented.
"""
WAIT_MS, MIN_WAIT_MS, MAX_WAIT_MS = 90_000, 1_000, 300_000
STREAM_HOLD_MS = 10_000
RATE_WINDOW_S = 10.0


class Refused(Exception):
    """The job plane's way to say no: `{"status", "title", "detail"}`, and a code where it has one."""

    def __init__(self, status: int, detail: str, **more: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more

    def response(self) -> Response:
        """Return the reply."""
        body = {"status": self.status, "title": HTTPStatus(self.status).phrase, "detail": self.detail}
        return JSONResponse(
            body | self.more, self.status, {"Retry-After": "1"} if self.status == 429 else None
        )


class NotForQueues(Exception):
    """A queue's operation was asked of a load balancer; its answer has a shape of its own.

    Source: as observed on the service.
    """


def app(state: State) -> Starlette:
    """Make the plane, with the supervisor of its workers."""
    plane = JobPlane(state)
    supervisor = Supervisor(state)
    Webhooks(state)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await supervisor.start()
        yield

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)  # noqa: S101 - starlette calls this for nothing else
        return error.response()

    async def refuse_type(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "not allowed for QB API"}, 400)

    async def refuse_path(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - starlette calls this for nothing else
        reply = Refused(error.status_code, error.detail.lower()).response()
        reply.headers.update(error.headers or {})
        return reply

    def route(path: str, method: str, name: str, answer: Callable[..., Awaitable[Response]]) -> Route:
        async def endpoint(request: Request) -> Response:
            endpoint = plane.admit(request, name)
            with plane.in_flight(endpoint.body["id"], name):
                return await answer(request, endpoint)

        return Route(path, endpoint, methods=[method])

    return Starlette(
        routes=[
            route("/{endpoint_id}/run", "POST", "run", plane.run),
            route("/{endpoint_id}/runsync", "POST", "runsync", plane.runsync),
            route("/{endpoint_id}/status/{job_id}", "GET", "status", plane.status),
            route("/{endpoint_id}/status-sync/{job_id}", "GET", "status", plane.status_sync),
            route("/{endpoint_id}/stream/{job_id}", "GET", "stream", plane.stream),
            route("/{endpoint_id}/cancel/{job_id}", "POST", "cancel", plane.cancel),
            route("/{endpoint_id}/retry/{job_id}", "POST", "retry", plane.retry),
            route("/{endpoint_id}/purge-queue", "POST", "purge-queue", plane.purge),
            route("/{endpoint_id}/health", "GET", "health", plane.health),
            Route("/{endpoint_id}/requests", not_emulated, methods=["GET"]),
            Route("/{endpoint_id}/openai/{path:path}", not_emulated, methods=["GET", "POST"]),
            *worker_api.routes(state, supervisor),
        ],
        exception_handlers={Refused: refuse, NotForQueues: refuse_type, HTTPException: refuse_path},
        lifespan=lifespan,
    )


async def not_emulated(request: Request) -> Response:
    """Say by name that an operation is missing."""
    raise Refused(501, f"emulator: {request.method} {request.url.path} is not emulated")


class JobPlane:
    """The operations of the job plane over the account's state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._calls: dict[tuple[str, str], list[float]] = {}
        self._in_flight: Counter[tuple[str, str]] = Counter()

    def admit(self, request: Request, operation: str) -> Endpoint:
        """Check key, endpoint and rate; return the endpoint."""
        key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not key:
            raise Refused(401, "no token provided")
        if key != self._state.keys.api_key:
            raise Refused(401, "invalid api key")
        if self._state.limits.api_key_rights != "all":
            raise Refused(403, "access denied")
        endpoint_id = request.path_params["endpoint_id"]
        endpoint = self._state.resources.endpoints.get(endpoint_id)
        if endpoint is None:
            raise Refused(404, "endpoint not found")
        if endpoint.body["type"] != "QUEUE":
            raise NotForQueues
        self._count(endpoint_id, operation)
        return endpoint

    @contextmanager
    def in_flight(self, endpoint_id: str, operation: str) -> Iterator[None]:
        """Count a request while it is answered; refuse more at a time than are allowed."""
        _, most = self._documented(operation)
        if most is not None and self._in_flight[endpoint_id, operation] >= most:
            raise Refused(429, "too many concurrent requests")
        self._in_flight[endpoint_id, operation] += 1
        try:
            yield
        finally:
            self._in_flight[endpoint_id, operation] -= 1

    def _documented(self, operation: str) -> tuple[int | None, int | None]:
        on = self._state.limits.job_rates_as_documented
        return DOCUMENTED_RATES.get(operation, (None, None)) if on else (None, None)

    def _count(self, endpoint_id: str, operation: str) -> None:
        limit = self._state.limits.job_rate_per_10s.get(operation, self._documented(operation)[0])
        if limit is None:
            return
        now = self._state.clock.now()
        calls = [time for time in self._calls.get((endpoint_id, operation), []) if time > now - RATE_WINDOW_S]
        if len(calls) >= limit:
            raise Refused(429, "rate limit exceeded")
        self._calls[endpoint_id, operation] = [*calls, now]

    async def run(self, request: Request, endpoint: Endpoint) -> Response:
        """Queue a job."""
        body = await self._body(request, self._state.limits.run_body_bytes)
        job = self._submit(endpoint, body, sync=False, wait_s=0)
        return JSONResponse({"id": job.id, "status": job.status})

    async def runsync(self, request: Request, endpoint: Endpoint) -> Response:
        """Queue a job and wait for its end; when the wait is over, answer 200 with the state it is in."""
        body = await self._body(request, self._state.limits.runsync_body_bytes)
        wait_s = wait_of(request)
        job = self._submit(endpoint, body, sync=True, wait_s=wait_s)
        await self._until_final(job, wait_s)
        if job.status in FINAL:
            return JSONResponse(job.shown())
        return JSONResponse({"id": job.id, "status": job.status})

    async def status(self, request: Request, _: Endpoint) -> Response:
        """Show a job."""
        return JSONResponse(self._job(request).shown())

    async def status_sync(self, request: Request, _: Endpoint) -> Response:
        """Show a job when it has ended, or after the wait."""
        job = self._job(request)
        await self._until_final(job, wait_of(request))
        return JSONResponse(job.shown())

    async def stream(self, request: Request, _: Endpoint) -> Response:
        """Return the chunks since the last call; hold the request until there is one."""
        job = self._job(request)
        hold_s = milliseconds(request, STREAM_HOLD_MS) / 1000
        if not job.chunks and job.status not in FINAL:
            await self._state.bells.wait(hold_s, ("job", job.id))
        chunks = [{"output": chunk} for chunk in self._state.jobs.drain(job)]
        return JSONResponse({"status": job.status, "stream": chunks})

    async def cancel(self, request: Request, _: Endpoint) -> Response:
        """Cancel a job; one that has ended stays as it is."""
        job = self._job(request)
        self._state.jobs.cancel(job)
        return JSONResponse({"id": job.id, "status": job.status})

    async def retry(self, request: Request, _: Endpoint) -> Response:
        """Queue a failed job again."""
        job = self._job(request)
        if not self._state.jobs.retry(job):
            raise Refused(400, f"only FAILED or TIMED_OUT jobs can be retried, this one is {job.status}")
        return JSONResponse({"id": job.id, "status": job.status})

    async def purge(self, request: Request, _: Endpoint) -> Response:
        """Remove the queued jobs."""
        removed = self._state.jobs.purge(request.path_params["endpoint_id"])
        return JSONResponse({"removed": removed, "status": "completed"})

    async def health(self, request: Request, _: Endpoint) -> Response:
        """Count jobs and workers."""
        endpoint_id = request.path_params["endpoint_id"]
        jobs, workers = self._state.jobs.health(endpoint_id), self._state.fleet.health(endpoint_id)
        return JSONResponse({"jobs": jobs, "workers": workers})

    def _submit(self, endpoint: Endpoint, body: dict[str, Any], *, sync: bool, wait_s: float) -> Job:
        if endpoint.body["workers"]["max"] == 0 or self._state.clock.now() < endpoint.paused_until:
            raise Refused(
                409,
                "Endpoint is paused (max_workers=0). Set max_workers > 0 to accept work.",
                code="ENDPOINT_PAUSED",
            )
        timeout_ms = endpoint.body["timeout"]
        return self._state.jobs.submit(
            endpoint.body["id"], body, timeout_ms=timeout_ms, sync=sync, wait_s=wait_s
        )

    def _job(self, request: Request) -> Job:
        job = self._state.jobs.get(request.path_params["endpoint_id"], request.path_params["job_id"])
        delay_s = self._state.limits.propagation_delay_s
        if job is None or self._state.clock.now() < job.created_at + delay_s:
            raise Refused(404, "job not found")
        return job

    async def _until_final(self, job: Job, wait_s: float) -> None:
        """Wait for a job's end in the emulated time, which tests may skip."""
        deadline = self._state.clock.now() + wait_s
        bells = self._state.bells
        while (
            job.status not in FINAL and (left := deadline - self._state.clock.now()) > 0 and not bells.closed
        ):
            await bells.wait(min(left, 1.0), ("job", job.id))

    async def _body(self, request: Request, limit_bytes: int) -> dict[str, Any]:
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > limit_bytes:
                raise Refused(400, f"request body is larger than {limit_bytes} bytes")
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            raise Refused(400, "request body is not valid JSON") from None
        problem = body_problem(body)
        if problem:
            raise Refused(400, problem)
        return dict(body)


def wait_of(request: Request) -> float:
    """Return `?wait=`, milliseconds from 1000 to 300000, in seconds."""
    return min(max(milliseconds(request, WAIT_MS), MIN_WAIT_MS), MAX_WAIT_MS) / 1000


def milliseconds(request: Request, default: int) -> int:
    """Return `?wait=` as it is."""
    wish = whole_number(request.query_params.get("wait", str(default)))
    if wish is None:
        raise Refused(400, "wait must be a number of milliseconds")
    return wish


def body_problem(body: Any) -> str | None:
    """Say what is wrong with a job's body, or None.

    Source: RunPod docs 2026-08-20, "Execution policies": executionTimeout from 5 s, ttl from 10 s,
    both up to 7 days.
    """
    if not isinstance(body, dict) or "input" not in body:
        return "input is required"
    policy = body.get("policy", {})
    if not isinstance(policy, dict):
        return "policy must be an object"
    for name, least_ms in (("executionTimeout", 5_000), ("ttl", 10_000)):
        value = policy.get(name, least_ms)
        if type(value) is not int or not least_ms <= value <= 7 * 86_400_000:
            return f"policy.{name} must be from {least_ms} to {7 * 86_400_000} milliseconds"
    return None
