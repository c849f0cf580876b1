"""The tools about what runs: job, for generations that take long, and backend_status."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from backend.errors import InvalidArgument, JobError, MissingSetting
from mcp_server import results
from mcp_server.generation import answer, cancel, find, watch_of
from mcp_server.paging import next_cursor, start_of
from mcp_server.schemas import BACKEND, WAITING
from mcp_server.tool import Answer, Call, Schema, Tool, an_object

if TYPE_CHECKING:
    from backend.jobs.status import JobStatus

JOBS_A_PAGE: Final = 25
ERROR_SHOWN: Final = 300
"""Characters of an error in a list; the job tool tells the whole."""

# RunPod's words and ours, in four.
_STATES: Final = {
    "SUBMITTING": "running",
    "IN_QUEUE": "running",
    "IN_PROGRESS": "running",
    "COMPLETED": "done",
    "CANCELLED": "cancelled",
    "UNKNOWN": "unknown",
}


async def _job(call: Call) -> Answer:
    action = call.arguments["action"]
    if action == "list":
        return await _list(call)
    job = call.arguments.get("job")
    if job is None:
        raise InvalidArgument(f'job: the action "{action}" needs a job.', hint='"list" shows them.')
    if action in ("wait", "resume"):
        return await answer(call, await watch_of(call.studio, job, call.arguments.get("backend")))
    return await (_status(call, job) if action == "status" else _cancel(call, job))


async def _status(call: Call, job: str) -> Answer:
    studio = call.studio
    watch = studio.watches.get(job)
    if watch is not None and not watch.ended:
        return _said(job, watch.verb, watch.backend, "running", watch.said)
    if watch is not None and not watch.gave_up:
        try:
            return await answer(call, watch)
        except JobError as error:
            return _said(job, watch.verb, watch.backend, "failed", str(error))
    found = await find(studio, job, call.arguments.get("backend"))
    status: JobStatus = await studio.run(found.flows.status(found.job))
    state = _STATES.get(status.state, "failed")
    text = {"done": 'done; "wait" fetches the result', "running": status.state.lower().replace("_", " ")}
    said = text.get(state, str(status.error or status.state.lower()))
    return _said(job, found.verb, found.flows.name, state, said)


async def _cancel(call: Call, job: str) -> Answer:
    done = await cancel(call.studio, job, call.arguments.get("backend"))
    said = "cancelled" if done.cancelled else "already finished, or unknown"
    return _said(job, done.verb, done.backend, "cancelled" if done.cancelled else "unknown", said)


def _said(job: str, verb: str, backend: str, status: str, said: str) -> Answer:
    structured = {"status": status, "job": job, "verb": verb, "backend": backend, "progress": said or None}
    text = f"The {verb} {job} on {backend}: {status}" + (f" ({said})." if said and said != status else ".")
    return Answer(structured, text)


async def _list(call: Call) -> Answer:
    start = start_of(call.arguments.get("cursor"))
    journal = call.studio.journal
    total = await asyncio.to_thread(journal.count)
    entries = await asyncio.to_thread(journal.entries, JOBS_A_PAGE, skip=start)
    shown: list[dict[str, Any]] = [
        {
            "job": entry.job_id or entry.key,
            "verb": entry.verb,
            "backend": entry.backend,
            "status": _STATES.get(entry.state, "failed"),
            "submitted_at": entry.submitted_at,
            "output_path": entry.output_path,
            "error": entry.error[:ERROR_SHOWN] if entry.error else None,
        }
        for entry in entries
    ]
    lines = [f"{total} jobs, newest first."]
    lines += [f"{e['submitted_at']} {e['verb']} {e['job']}: {e['status']}" for e in shown]
    cursor = next_cursor(start, JOBS_A_PAGE, total)
    return Answer({"status": "listed", "jobs": shown, "next_cursor": cursor}, "\n".join(lines))


async def _backend_status(call: Call) -> Answer:
    studio = call.studio
    named = call.arguments.get("backend")
    names = [named] if named else list(dict.fromkeys((studio.settings.comfy_backend, "local", "runpod")))
    checked = await asyncio.gather(*(_health(call, name) for name in names))
    lines = [f"Results go to {studio.outputs.root}."]
    for health in checked:
        default = ", the default" if health["backend"] == studio.settings.comfy_backend else ""
        what = "ready" if health["healthy"] else f"not ready: {health['error']}"
        lines.append(f"{health['backend']}{default}: {what}")
    structured = {
        "default": studio.settings.comfy_backend,
        "backends": checked,
        "output_dir": str(studio.outputs.root),
        "asks_before": studio.settings.comfyform_mcp_confirm,
    }
    return Answer(structured, "\n".join(lines))


async def _health(call: Call, name: str) -> dict[str, Any]:
    """One backend's health; a setting that is missing is a reason like any other."""
    try:
        flows = call.studio.flows(name)
    except MissingSetting as error:
        return {"backend": name, "configured": False, "healthy": False, "version": None, "error": str(error)}
    health = await call.studio.run(flows.health_check())
    return {
        "backend": name,
        "configured": True,
        "healthy": health.healthy,
        "version": health.version,
        "error": health.error,
    }


_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_LISTED: Final = an_object(
    {
        "job": {"type": "string"},
        "verb": {"type": "string"},
        "backend": {"type": "string"},
        "status": {"type": "string"},
        "submitted_at": {"type": "string"},
        "output_path": _TEXT_OR_NULL,
        "error": _TEXT_OR_NULL,
    },
    required=("job", "verb", "backend", "status", "submitted_at", "output_path", "error"),
)
_HEALTH: Final = an_object(
    {
        "backend": {"type": "string"},
        "configured": {"type": "boolean"},
        "healthy": {"type": "boolean"},
        "version": _TEXT_OR_NULL,
        "error": _TEXT_OR_NULL,
    },
    required=("backend", "configured", "healthy", "version", "error"),
)

TOOLS: Final = (
    Tool(
        name="job",
        title="Go on with a job",
        description='Go on with a generation that answered with status "running": "wait" for its result, '
        'look at its "status", or "cancel" it, which ends the cost. "resume" is "wait" for a job of an '
        'earlier server. "list" shows the jobs that were run from this machine. Waiting costs nothing more.',
        parameters=an_object(
            {
                "action": {
                    "type": "string",
                    "enum": ["status", "wait", "cancel", "resume", "list"],
                    "description": "What to do.",
                },
                "job": {"type": "string", "minLength": 1, "description": "The handle of the job."},
                "cursor": {"type": "string", "description": 'With "list": next_cursor of the page before.'},
                **BACKEND,
                **WAITING,
            },
            required=("action",),
        ),
        output=an_object(
            {
                **results.GENERATION["properties"],
                "status": {
                    "type": "string",
                    "enum": ["done", "running", "failed", "cancelled", "unknown", "listed"],
                },
                "jobs": {"type": "array", "items": _LISTED},
                "next_cursor": _TEXT_OR_NULL,
            },
            required=("status",),
        ),
        run=_job,
        destroys=True,
        repeatable=True,
    ),
    Tool(
        name="backend_status",
        title="Which backends are ready",
        description="Say which backends are configured and would take a job now, why not, where results go, "
        "and what is asked about first. Wakes no worker and costs nothing.",
        parameters=an_object(BACKEND),
        output=an_object(
            {
                "default": {"type": "string"},
                "backends": {"type": "array", "items": _HEALTH},
                "output_dir": {"type": "string"},
                "asks_before": {"type": "string"},
            },
            required=("default", "backends", "output_dir", "asks_before"),
        ),
        run=_backend_status,
        reads_only=True,
    ),
)
