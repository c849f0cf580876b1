"""Hedra's API v3: files, models, estimates, jobs.

Source: Hedra API v3 documentation, read 2026-10. There is no published document at hand to judge it by.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from emulator.hedra.jobs import DONE, Account, HedraJob, Refused, invalid
from emulator.hedra.models import MODELS, VOICES
from emulator.state import State

Handler = Callable[[Request], Awaitable[Response]]
PREFIX = "/hedra"
OPEN = ("models", "model", "voices", "schema")
"""Operations that ask for no key."""
MISSING = ("tokens", "webhooks", "log-drains", "usage", "keys", "chat")
WINDOW_S = 60.0


def app(state: State) -> Starlette:
    """Make the plane."""
    plane = Hedra(state)

    def route(path: str, method: str, handler: Handler, *, needs_key: bool = True) -> Route:
        async def endpoint(request: Request) -> Response:
            return await plane.guarded(request, handler, needs_key=needs_key)

        return Route(f"/v3{path}", endpoint, methods=[method])

    async def refuse_path(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - starlette calls this for nothing else
        return refusal(Refused(error.status_code, "NOT_FOUND", "No such path or method."))

    missing = [
        route(f"/{name}{{rest:path}}", method, plane.missing)
        for name in MISSING
        for method in ("GET", "POST")
    ]
    return Starlette(
        routes=[
            route("/balance", "GET", plane.balance),
            route("/models", "GET", plane.models, needs_key=False),
            route("/models/{model_id}", "GET", plane.model, needs_key=False),
            route("/models/{model_id}/voices", "GET", plane.voices, needs_key=False),
            route("/models/{model_id}/estimate", "POST", plane.estimate),
            route("/models/{model_id}", "POST", plane.submit),
            route("/files", "POST", plane.upload),
            route("/jobs", "GET", plane.list_jobs),
            route("/jobs/{job_id}", "GET", plane.result),
            route("/jobs/{job_id}", "DELETE", plane.erase),
            route("/jobs/{job_id}/status", "GET", plane.status),
            route("/jobs/{job_id}/stream", "GET", plane.stream),
            *missing,
        ],
        exception_handlers={HTTPException: refuse_path},
    )


def refusal(error: Refused) -> Response:
    """Turn a refusal into a response."""
    wait = error.error.get("retry_after")
    return JSONResponse({"error": error.error}, error.status, {"Retry-After": str(wait)} if wait else None)


class Hedra:
    """The operations over the account."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._account = Account(state)
        self._calls: list[float] = []
        state.on_reset.append(self._calls.clear)

    async def guarded(self, request: Request, handler: Handler, *, needs_key: bool) -> Response:
        """Check key and rate, answer, and return the rate's headers."""
        headers: dict[str, str] = {}
        try:
            if needs_key:
                self._authenticate(request)
                headers = self._count()
            response = await handler(request)
        except Refused as error:
            response = refusal(error)
        response.headers.update(headers)
        return response

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme not in ("Key", "Bearer") or not key:
            raise Refused(401, "UNAUTHORIZED", "Missing credentials. Send Authorization: Key <id>:<secret>.")
        if key != self._state.keys.hedra_api_key:
            raise Refused(401, "UNAUTHORIZED", "Invalid API key.")

    def _count(self) -> dict[str, str]:
        limit, now = self._state.limits.hedra_rate_per_minute, self._state.clock.now()
        self._calls[:] = [time for time in self._calls if time > now - WINDOW_S]
        if len(self._calls) >= limit:
            raise Refused(429, "RESOURCE_EXHAUSTED", "Rate limit exceeded.", retry_after=30)
        self._calls.append(now)
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(limit - len(self._calls)),
            "X-RateLimit-Reset": str(int(self._calls[0] + WINDOW_S)),
        }

    async def missing(self, request: Request) -> Response:
        """Say by name that an operation is missing."""
        raise Refused(501, "UNAVAILABLE", f"emulator: {request.method} {request.url.path} is not emulated")

    async def balance(self, _: Request) -> Response:
        """Show the wallet."""
        account = self._account
        return JSONResponse({"balance": account.balance, "spent": round(account.spent, 4), "currency": "USD"})

    async def models(self, request: Request) -> Response:
        """List the models, of one modality when asked."""
        required = request.query_params.get("modality")
        if required not in (None, "image", "video", "audio"):
            detail = {
                "field": "modality",
                "message": "modality must be one of the allowed values",
                "reason": "enum",
            }
            raise invalid([detail])
        data = [model.shown(whole=False) for model in MODELS.values() if required in (None, model.modality)]
        return JSONResponse({"data": data, "next_cursor": None})

    async def model(self, request: Request) -> Response:
        """Show a model with its schemas."""
        return JSONResponse(self._account.model(request.path_params["model_id"]).shown(whole=True))

    async def voices(self, request: Request) -> Response:
        """List a model's voices; only speech has any."""
        model = self._account.model(request.path_params["model_id"])
        return JSONResponse({"data": VOICES if model.modality == "audio" else [], "next_cursor": None})

    async def estimate(self, request: Request) -> Response:
        """Return the price of a job, and start none."""
        model = self._account.model(request.path_params["model_id"])
        body = await self._body(request, {"input"})
        cost = await self._account.price(model, body["input"])
        return JSONResponse({"model": model.id, "cost": cost, "currency": "USD"})

    async def upload(self, request: Request) -> Response:
        """Keep a file for an hour."""
        form = await request.form()
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise invalid([{"field": "file", "message": "file is required", "reason": "required"}])
        return JSONResponse(self._account.add_file(await file.read(), file.filename or "file"), 201)

    async def submit(self, request: Request) -> Response:
        """Start a job."""
        model = self._account.model(request.path_params["model_id"])
        body = await self._body(request, {"input", "webhook", "idempotency_key"})
        job, replayed = await self._account.submit(model, body["input"], body.get("idempotency_key"))
        path = f"{PREFIX}/v3/jobs/{job.id}"
        document = self._account.status(job) | {"model": model.id, "status": "IN_QUEUE"}
        document |= {"status_url": f"{path}/status", "result_url": path}
        del document["progress"]
        headers = {"Location": path} | ({"X-Idempotent-Replayed": "true"} if replayed else {})
        return JSONResponse(document, 202, headers)

    async def _body(self, request: Request, known: set[str]) -> dict[str, Any]:
        try:
            body = json.loads(await request.body())
        except ValueError:
            raise Refused(400, "INVALID_ARGUMENT", "The body is not valid JSON.") from None
        strange = sorted(set(body) - known) if isinstance(body, dict) else []
        details = [
            {"field": name, "message": f"{name} is not allowed", "reason": "additionalProperties"}
            for name in strange
        ]
        if not isinstance(body, dict) or "input" not in body:
            details.append({"field": "input", "message": "input is required", "reason": "required"})
        if details:
            raise invalid(details)
        return dict(body)

    async def list_jobs(self, request: Request) -> Response:
        """List jobs, newest first, a page at a time."""
        limit = int(request.query_params.get("limit", "20"))
        if not 1 <= limit <= 100:
            raise invalid([{"field": "limit", "message": "limit must be from 1 to 100", "reason": "maximum"}])
        jobs = list(self._account.jobs.values())[::-1]
        start = int(request.query_params.get("cursor", "0"))
        page = [
            {"job_id": job.id, "model": job.model.id, "status": job.status, "created_at": job.created_at}
            for job in jobs[start : start + limit]
        ]
        more = str(start + limit) if len(jobs) > start + limit else None
        return JSONResponse({"data": page, "next_cursor": more})

    def _job(self, request: Request) -> HedraJob:
        return self._account.job(request.path_params["job_id"])

    async def status(self, request: Request) -> Response:
        """Show how far a job is."""
        return JSONResponse(self._account.status(self._job(request)))

    async def result(self, request: Request) -> Response:
        """Show a job with its outputs."""
        return JSONResponse(self._account.result(self._job(request)))

    async def erase(self, request: Request) -> Response:
        """Erase a finished job."""
        job = self._job(request)
        if job.status not in DONE:
            raise Refused(409, "FAILED_PRECONDITION", "The job is still running.", retry_after=5)
        del self._account.jobs[job.id]
        return Response(status_code=204)

    async def stream(self, request: Request) -> Response:
        """Tell a job's states as server-sent events, until it is done."""
        return StreamingResponse(self._events(self._job(request)), media_type="text/event-stream")

    async def _events(self, job: HedraJob) -> AsyncIterator[str]:
        number = 0
        while not self._state.bells.closed:
            number += 1
            yield f"id: {number}\nevent: status\ndata: {json.dumps(self._account.status(job))}\n\n"
            if job.status in DONE:
                yield f"id: {number + 1}\nevent: done\ndata: [STREAM_DONE]\n\n"
                return
            await self._state.bells.wait(5.0, ("hedra", job.id))
