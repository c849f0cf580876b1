"""One job of the ops endpoint's worker: submit it, tell how it stands, return its output."""

from collections.abc import Callable, Mapping
from typing import Any

from backend.errors import NotFound, TransferError
from backend.flow.http_driver import Http
from backend.runpod.job_api import JobPlane

OnState = Callable[[Mapping[str, Any]], object]
OnEvent = Callable[[Mapping[str, Any]], object]


def call_worker(
    http: Http,
    plane: JobPlane,
    endpoint_id: str,
    job: Mapping[str, Any],
    *,
    deadline_s: float,
    on_event: OnEvent = lambda _event: None,
    on_state: OnState = lambda _event: None,
) -> Mapping[str, Any]:
    """Run one job and return its output.

    Args:
        http: the driver.
        plane: the job plane.
        endpoint_id: the ops endpoint.
        job: its input.
        deadline_s: for the wait and for the job.
        on_event: gets the progress events of the job.
        on_state: gets each state of the job, and ``ENDED`` at its end.

    Raises:
        NotFound: the endpoint does not exist.
        TransferError: the output is not an object.
    """
    jobs: set[str] = set()

    def tell(event: Mapping[str, Any]) -> None:
        if event.get("progress") == "job":
            jobs.add(event["job_id"])
            on_state(event)
        else:
            on_event(event)

    flow = plane.call(endpoint_id, job, deadline_s=deadline_s)
    try:
        output = http.run(flow, on_progress=tell)
    except NotFound as error:
        error.hint = "Check RUNPOD_OPS_ENDPOINT_ID: the endpoint does not exist, or is another account's."
        raise
    finally:
        for job_id in jobs:
            on_state({"progress": "job", "state": "ENDED", "job_id": job_id})
    if not isinstance(output, Mapping):
        raise not_understood(str(job["action"]))
    return output


def not_understood(action: str) -> TransferError:
    """Build the error for an answer of another form than expected."""
    return TransferError(
        f"This version cannot read the worker's answer to {action}.",
        hint="Deploy the worker that belongs to this version of comfyform.",
    )
