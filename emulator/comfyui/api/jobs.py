"""`/api/jobs`: one view over the queue and history. Only in the 2026 version; the older answers 404."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from emulator.comfyui.graph.engine import Engine
from emulator.comfyui.graph.prompt import Item, Outcome

STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
Job = dict[str, Any]


def all_jobs(engine: Engine) -> list[Job]:
    """List every job, newest first."""
    running = [] if engine.running is None else [engine.running]
    jobs = [_waiting(item, "pending") for item in engine.pending]
    jobs += [_waiting(item, "in_progress") for item in running]
    jobs += [finished(item, outcome) for item, outcome in engine.history.values()]
    return sorted(jobs, key=lambda job: job["create_time"], reverse=True)


def _waiting(item: Item, status: str) -> Job:
    return {
        "id": item.prompt_id,
        "status": status,
        "priority": item.number,
        "create_time": item.extra_data.get("create_time", 0),
        "outputs_count": 0,
    }


def finished(item: Item, outcome: Outcome) -> Job:
    """Describe a job that has ended, however it did."""
    events = dict(outcome.messages)
    last = outcome.messages[-1][1]
    status = "completed"
    if outcome.status == "error":
        status = "cancelled" if "execution_interrupted" in events else "failed"
    files = [
        (node_id, kind, one)
        for node_id, ui in outcome.outputs.items()
        for kind, found in ui.items()
        for one in found
        if isinstance(one, dict)
    ]
    job = _waiting(item, status) | {
        "execution_start_time": events["execution_start"]["timestamp"],
        "execution_end_time": last["timestamp"],
        "outputs_count": len(files),
    }
    if files:
        node_id, kind, one = files[0]
        job["preview_output"] = {**one, "nodeId": node_id, "mediaType": kind}
    if "execution_error" in events:
        job["execution_error"] = events["execution_error"]
    return job


def routes(engine: Engine) -> list[Route]:
    """Make the routes, to be mounted under `/api`."""

    async def listing(request: Request) -> JSONResponse:
        query = request.query_params
        required = [part for part in query.get("status", "").split(",") if part]
        unknown = [part for part in required if part not in STATUSES]
        if unknown:
            valid = ", ".join(STATUSES)
            return _bad(f"Invalid status value(s): {', '.join(unknown)}. Valid values: {valid}")
        try:
            offset = int(query.get("offset", 0))
            limit = int(query["limit"]) if "limit" in query else None
        except ValueError:
            return _bad("limit and offset must be integers")
        jobs = [job for job in all_jobs(engine) if not required or job["status"] in required]
        if query.get("sort_order") == "asc":
            jobs.reverse()
        end = len(jobs) if limit is None else offset + limit
        page = {"offset": offset, "limit": limit, "total": len(jobs), "has_more": end < len(jobs)}
        return JSONResponse({"jobs": jobs[offset:end], "pagination": page})

    async def one(request: Request) -> JSONResponse:
        job_id = request.path_params["job_id"]
        job = next((job for job in all_jobs(engine) if job["id"] == job_id), None)
        if job is None:
            return JSONResponse({"error": "Job not found"}, 404)
        if job_id in engine.history:
            item, outcome = engine.history[job_id]
            job |= {
                "outputs": outcome.outputs,
                "execution_status": outcome.status_json(),
                "workflow": {"prompt": item.graph, "extra_data": item.extra_data},
            }
        return JSONResponse(job)

    async def cancel(request: Request) -> JSONResponse:
        job_id = request.path_params["job_id"]
        if not _is_uuid(job_id):
            return JSONResponse({"error": "job_id must be a valid UUID", "invalid_ids": [job_id]}, 400)
        return JSONResponse({"cancelled": _cancel(engine, job_id)})

    async def cancel_many(request: Request) -> JSONResponse:
        job_ids = (await request.json()).get("job_ids", [])
        invalid = [job_id for job_id in job_ids if not _is_uuid(job_id)]
        if invalid:
            return JSONResponse({"error": "job_ids contains invalid id(s)", "invalid_ids": invalid}, 400)
        cancelled = [_cancel(engine, job_id) for job_id in job_ids]
        return JSONResponse({"cancelled": any(cancelled)})

    return [
        Route("/jobs", listing),
        Route("/jobs/cancel", cancel_many, methods=["POST"]),
        Route("/jobs/{job_id}", one),
        Route("/jobs/{job_id}/cancel", cancel, methods=["POST"]),
    ]


def _cancel(engine: Engine, job_id: str) -> bool:
    return engine.dequeue([job_id]) or engine.interrupt(job_id)


def _bad(message: str) -> JSONResponse:
    return JSONResponse({"error": message}, 400)


def _is_uuid(text: object) -> bool:
    try:
        uuid.UUID(str(text))
    except ValueError:
        return False
    return True
