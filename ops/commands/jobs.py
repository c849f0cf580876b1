"""What ``inv jobs.*`` does: the journal of paid jobs, and what RunPod says of them now."""

from typing import Any

from backend import GenerationResult, Settings, get_backend
from backend.errors import JobError, NotFound
from backend.jobs.journal import Entry, Journal
from backend.validation.checks import check_id
from backend.validation.printable import shortened, shown
from ops.commands.generate import show
from ops.console.console import opened
from ops.console.generation_progress import watching

RUNPOD = "runpod"
MAX_FIELD_CHARS = 4000
SHOWN = 20
"""Entries that are listed by default."""


def list_jobs(*, json: bool = False, all: bool = False, settings: Settings | None = None) -> int:  # noqa: A002  # the option's name
    """List the jobs of this machine, newest first.

    Args:
        json: give JSON.
        all: not only the last twenty.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    journal = Journal.from_settings(settings)
    entries = journal.entries(None if all else SHOWN)
    console.data([entry.to_json() for entry in entries])
    if not entries:
        console.say(f"No jobs are written down in {journal.folder}.")
        return 0
    rows = [
        [entry.submitted_at[:19], entry.verb, entry.state, _name(entry), _where(entry)] for entry in entries
    ]
    console.table(["submitted", "verb", "state", "job", "result"], rows)
    if any(entry.open and entry.job_id for entry in entries):
        console.say("Fetch a result that is not here yet with: inv jobs.wait JOB")
    if unseen := [entry.key for entry in entries if entry.open and not entry.job_id]:
        names = ", ".join(unseen[:3]) + (" …" if len(unseen) > 3 else "")
        console.say(
            f"No answer to the submission of {names} was seen: the program or the connection ended. "
            f"Look for the job at its service with: inv jobs.wait {unseen[0]}"
        )
    return 0


def show_job(job: str, *, backend: str = "", json: bool = False, settings: Settings | None = None) -> int:
    """Show what is written down of a job, and how its backend says that it is now.

    Args:
        job: its id, or its key in the journal.
        backend: whose it is, where the journal does not know it; by default RunPod's.
        json: give JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    entry = Journal.from_settings(settings).find(check_id(job))
    now: dict[str, Any] = {}
    if entry is None or (entry.job_id and not entry.result):
        with get_backend(entry.backend if entry else backend or RUNPOD, settings=settings) as client:
            try:
                status = client.status(entry.job_id if entry else job)
                now = {"state": status.state, "error": status.error, "worker_id": status.worker_id}
            except (NotFound, JobError) as error:
                now = {"state": "EXPIRED", "error": str(error)}
    facts = {**(entry.to_json() if entry else {"job_id": job}), "now": now}
    console.data(facts)
    for name, value in facts.items():
        if value not in (None, {}, ""):
            console.text(shortened(f"{name}: {value}", MAX_FIELD_CHARS))
    return 0


def wait_job(
    job: str,
    *,
    output_path: str = "",
    backend: str = "",
    timeout: float | None = None,
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Wait for a job and fetch its result. What is done is not paid for again.

    Args:
        job: its id, or its key in the journal.
        output_path: where the result goes; by default where it was to go.
        backend: whose it is, where the journal does not know it; by default RunPod's.
        timeout: seconds from now.
        json: give the result as JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    backend, job_id, place = _found(job, backend, settings)
    with get_backend(backend, settings=settings) as client, watching(console) as on_progress:
        result = client.resume(
            job_id,
            output_path=output_path or place,
            timeout_s=timeout,
            on_progress=on_progress,
        )
    return show(console, result)


def cancel_job(job: str, *, backend: str = "", json: bool = False, settings: Settings | None = None) -> int:
    """Cancel a job.

    Args:
        job: its id, or its key in the journal.
        backend: whose it is, where the journal does not know it; by default RunPod's.
        json: give JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    backend, job_id, _ = _found(job, backend, settings)
    with get_backend(backend, settings=settings) as client:
        done = client.cancel(job_id)
    console.data({"job": job, "cancelled": done})
    console.text(f"{job}: {'cancelled' if done else f'already finished, or unknown to {backend}'}")
    return 0 if done else JobError.exit_code


def _found(name: str, backend: str, settings: Settings) -> tuple[str, str, str | None]:
    """Return the backend, the id and the place of the result of a job, by its id or its journal key."""
    entry = Journal.from_settings(settings).find(check_id(name))
    if entry is None:
        return backend or RUNPOD, name, None
    return entry.backend, entry.job_id or name, entry.output_path


def _name(entry: Entry) -> str:
    return entry.job_id or entry.key


def _where(entry: Entry) -> str:
    files = GenerationResult.from_json(entry.result or {}).files
    places = [
        str(file.local_path or (file.remote_url and shown(file.remote_url)) or file.origin_path)
        for file in files
    ]
    return ", ".join(places) or (entry.error or entry.output_path or "").partition("\n")[0][:60]
