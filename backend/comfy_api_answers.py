"""What a server of the Comfy API v2 says: statuses, failures and refusals, read into values and errors. Pure.

Source: Comfy API v2, openapi-v2.yaml of 2026-08-21; recordings of comfy-api-proxy 0.1.6.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from backend.comfyui_answers import refusal, remedy, working
from backend.errors import (
    ApiError,
    Conflict,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotFound,
    NotSupported,
    Unavailable,
)
from backend.flow import Reply, check
from backend.graphs import Graph
from backend.job_status import JobStatus, State

_STATES: Final[Mapping[str, State]] = {
    "queued": "IN_QUEUE",
    "running": "IN_PROGRESS",
    "canceling": "IN_PROGRESS",
    "succeeded": "COMPLETED",
    "failed": "FAILED",
    "canceled": "CANCELLED",
    "expired": "TIMED_OUT",
}

# Codes whose status alone does not say who must act, and what helps.
_CODES: Final[Mapping[str, tuple[type[ApiError] | None, str]]] = {
    "insufficient_credits": (None, "Buy credits, or use another backend."),
    "workflow_format_ui": (None, "Export it in API format: Workflow > Export (API)."),
    "missing_asset": (NotFound, "An uploaded file is no longer kept there. Run it again: it is sent again."),
    "idempotency_key_reuse": (Conflict, "The job may be there already: look before you run it again."),
    "deployment_stopped": (Conflict, "Start the deployment in Comfy's console, or use another backend."),
    "deployment_not_ready": (
        None,
        "The deployment is still starting. COMFYFORM_TIMEOUT_S gives it more time.",
    ),
    "queue_full": (None, "Too many jobs wait there. Try again later, or use another backend."),
}


def status_of(job: Mapping[str, Any]) -> JobStatus:
    """Say how a job is, in RunPod's words. A status that is added later is UNKNOWN."""
    error = (job.get("error") or {}).get("message")
    return JobStatus(id=str(job["id"]), state=_STATES.get(str(job.get("status")), "UNKNOWN"), error=error)


def progress_of(job: Mapping[str, Any], graph: Mapping[str, Any]) -> dict[str, Any]:
    """Say how far a job is, as a `backend.contract.RunProgress`."""
    event: dict[str, Any] = {"progress": "run", "job_id": str(job["id"])}
    if job.get("status") == "queued":
        place = job.get("queue_position")
        return event | {"state": "queued"} | ({} if place is None else {"position": place})
    done = job.get("progress") or {}
    return event | working(done.get("current_node"), graph, done.get("step"), done.get("steps"))


def ended_well(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a job back when it succeeded.

    Raises:
        JobFailed, JobCancelled, JobExpired: it did not.
    """
    job_id = str(job["id"])
    match job.get("status"):
        case "failed":
            raise _failed(job.get("error") or {}, job_id)
        case "canceled":
            raise JobCancelled(f"Job {job_id} was cancelled.", job_id=job_id)
        case "expired":
            raise JobExpired(
                f"Job {job_id} expired before it ended.",
                job_id=job_id,
                hint="The server gave it up, or the ComfyUI behind it was restarted. Run it again.",
            )
    return job


def _failed(error: Mapping[str, Any], job_id: str) -> JobFailed:
    message = str(error.get("message") or error.get("code") or "no reason given").strip()
    traceback = str(error.get("traceback") or "")
    node = (
        f"node {error['node_id']} ({error.get('class_type')}) failed" if error.get("node_id") else "it failed"
    )
    return JobFailed(
        f"Job {job_id}: {node}: {message.partition(chr(10))[0].rstrip('.')}.",
        job_id=job_id,
        hint=remedy(f"{message}\n{traceback}"),
        worker_error=f"{message}\n{traceback}".strip(),
        output={"node_id": error.get("node_id"), "node_type": error.get("class_type")},
    )


def error_of(reply: Reply) -> Mapping[str, Any]:
    """The error of an answer; {} where something else answered in the server's place."""
    with contextlib.suppress(Unavailable):
        body = reply.json()
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            error: Mapping[str, Any] = body["error"]
            return error
    return {}


def checked(reply: Reply, what: str) -> Reply:
    """Let a good answer through and raise the typed error of a bad one: by its code, else by its status."""
    code = error_of(reply).get("code")
    if code == "not_implemented":
        raise NotSupported(f"{what}: this server does not do that.")
    kind, hint = _CODES.get(str(code), (None, ""))
    try:
        return check(reply, what)
    except ApiError as error:
        error.hint = hint or error.hint
        if kind is None:
            raise
        raise kind(
            error.message,
            hint=error.hint,
            status=error.status,
            method=error.method,
            url=error.url,
            request_id=error.request_id,
            body=error.body,
        ) from None


def refused(error: Mapping[str, Any], graph: Graph) -> JobFailed:
    """The error of a graph that is not taken. Problems of nodes come in ComfyUI's shape, or in the API's."""
    problems = (error.get("details") or {}).get("node_errors") or {}
    nodes = {
        node_id: value
        if isinstance(value, Mapping)
        else {"errors": [{"type": one.get("reason"), "details": one.get("field")} for one in value]}
        for node_id, value in problems.items()
    }
    return refusal({"error": {"message": error.get("message")}, "node_errors": nodes}, graph)
