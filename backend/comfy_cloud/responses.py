"""What a server of the Comfy API v2 says: statuses, failures and refusals, read into values and errors. Pure.

Source: Comfy API v2, openapi-v2.yaml of 2026-08-21; recordings of comfy-api-proxy 0.1.6.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from backend.comfyui.refusals import refusal
from backend.comfyui.responses import remedy, working
from backend.errors import (
    ApiError,
    Conflict,
    InvalidJson,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotFound,
    NotSupported,
    Unavailable,
)
from backend.flow import Reply, check
from backend.jobs.status import MAX_WORKER_ERROR, JobStatus, State
from backend.validation.checks import address_problem, is_id
from backend.validation.json_reader import as_number, as_object, as_text, as_texts, needed_text, objects_in
from backend.validation.printable import quoted, shortened, visible
from backend.verbs.verb import Graph

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
    error = as_text(as_object(job.get("error")).get("message")) or None
    return JobStatus(id=job_id_of(job), state=_STATES.get(as_text(job.get("status")), "UNKNOWN"), error=error)


def job_id_of(job: Mapping[str, Any]) -> str:
    """The id of a job.

    Raises:
        InvalidJson: it has none that could be asked for.
    """
    job_id = needed_text(job, "id", "The job")
    if not is_id(job_id):
        raise InvalidJson(f"The job's id is {quoted(job_id)}, which cannot be asked for.")
    return job_id


def progress_of(job: Mapping[str, Any], graph: Mapping[str, Any]) -> dict[str, Any]:
    """Say how far a job is, as a `backend.contract.RunProgress`."""
    event: dict[str, Any] = {"progress": "run", "job_id": job_id_of(job)}
    if job.get("status") == "queued":
        place = job.get("queue_position")
        return event | {"state": "queued"} | ({} if place is None else {"position": place})
    done = as_object(job.get("progress"))
    steps = (as_number(done.get(name)) for name in ("step", "steps"))
    return event | working(done.get("current_node"), graph, *steps)


def ended_well(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a job back when it succeeded.

    Raises:
        JobFailed, JobCancelled, JobExpired: it did not.
    """
    job_id = job_id_of(job)
    match job.get("status"):
        case "failed":
            raise _failed(as_object(job.get("error")), job_id)
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
    message = (as_text(error.get("message")) or as_text(error.get("code")) or "no reason given").strip()
    traceback = "\n".join(as_texts(error.get("traceback")))
    node_id = as_text(error.get("node_id"))
    node = f"node {node_id} ({as_text(error.get('class_type'))}) failed" if node_id else "it failed"
    return JobFailed(
        f"Job {job_id}: {node}: {visible(shortened(message.partition(chr(10))[0])).rstrip('. ')}.",
        job_id=job_id,
        hint=remedy(f"{message}\n{traceback}"),
        worker_error=shortened(f"{message}\n{traceback}".strip(), MAX_WORKER_ERROR),
        output={"node_id": error.get("node_id"), "node_type": error.get("class_type")},
    )


def link_address(base_url: str, link: str) -> str:
    """A link of an answer as an address.

    Raises:
        InvalidJson: it is not one.
    """
    try:
        url = urljoin(base_url, link)
    except ValueError:
        url = ""
    if problem := address_problem(url):
        raise InvalidJson(f"A link of {base_url} {problem}.")
    return url


def output_address(base_url: str, output: Mapping[str, Any]) -> str | None:
    """Where an output can be fetched; None where the server gave no usable link."""
    try:
        return link_address(base_url, needed_text(output, "url", "The output"))
    except InvalidJson:
        return None


def is_same_server(url: str, base_url: str) -> bool:
    """Whether an address is on a server: only there its key may go."""
    return urlsplit(url)[:2] == urlsplit(base_url)[:2]


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
    problems = as_object(as_object(error.get("details")).get("node_errors"))
    nodes = {}
    for node_id, value in problems.items():
        found = [{"type": one.get("reason"), "details": one.get("field")} for one in objects_in(value)]
        nodes[node_id] = value if isinstance(value, Mapping) else {"errors": found}
    return refusal({"error": {"message": error.get("message")}, "node_errors": nodes}, graph)
