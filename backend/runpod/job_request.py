"""How a job gets into RunPod's queue: its body, its policy, and the one request that submits it."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from backend.errors import AuthError, ComfyformError, Conflict, InvalidArgument, NotFound, Unavailable
from backend.flow import Flow, Retry, Send, check, persist, send
from backend.flow.retry import was_not_taken
from backend.jobs.status import JobStatus
from backend.validation.checks import is_id, json_problems
from backend.validation.printable import quoted

LONGEST_EXECUTION_S: Final = 7 * 24 * 3600
PAUSED_PATIENCE_S: Final = 30.0
"""A paused endpoint goes on refusing for some seconds after its workers are raised again (seen live)."""


def execution_policy(deadline_s: float) -> dict[str, int]:
    """A policy that lets the worker run for so long.

    Source: the endpoint's own default was seen to be 0 as well as 300 s, so it is always sent;
        RunPod accepts 5 s to 7 days (docs 2026-08-20, execution policies).
    """
    return {"executionTimeout": math.ceil(min(max(deadline_s, 5.0), LONGEST_EXECUTION_S) * 1000)}


def body(job_input: Mapping[str, Any], policy: Mapping[str, Any] | None, *, limit: int, way: str) -> bytes:
    """Write the body of a submission.

    Raises:
        InvalidArgument: it is over the limit, or holds what JSON cannot hold.
    """
    job: dict[str, Any] = {"input": job_input}
    if policy:
        job["policy"] = policy
    if problems := list(json_problems(job_input)):
        raise InvalidArgument(f"The job cannot be written as JSON: {'; '.join(map(str, problems[:10]))}.")
    written = json.dumps(job, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(written) > limit:
        raise InvalidArgument(
            f"The job is {len(written) / 1e6:.1f} MB as JSON; "
            f"RunPod's {way} takes at most {limit / 1e6:.1f} MB.",
            hint="Send large files over the volume (set RUNPOD_VOLUME_ID and the RUNPOD_S3_… keys), "
            "or as https:// addresses, or make them smaller.",
        )
    return written


def submit_once(step: Send, endpoint_id: str, *, retry: Retry, clock: Callable[[], float]) -> Flow[JobStatus]:
    """POST a job. Repeated only where the first certainly was not taken.

    Raises:
        Unavailable: with ``.sent`` True the job may be in the queue, under an id that no answer gave.
    """
    # No wait may overdraw a budget: with the longest one added, the last attempt is made after the patience.
    while_paused = replace(retry, attempts=math.inf, budget_s=PAUSED_PATIENCE_S + retry.most_s)

    def once() -> Flow[JobStatus]:
        reply = check((yield from send(step)), f"Submit a job to endpoint {endpoint_id}")
        answer = reply.object()
        if not is_id(answer.get("id")):
            raise Unavailable(
                f"Endpoint {endpoint_id} took a job and gave {quoted(answer.get('id'))} for its id.",
                status=reply.status,
            )
        return JobStatus.from_json(answer)

    def when(error: ComfyformError) -> bool | Retry:
        if isinstance(error, Conflict) and "ENDPOINT_PAUSED" in error.body:
            return while_paused
        return was_not_taken(error)

    try:
        return (yield from persist(once, retry=retry, when=when, clock=clock))
    except Unavailable as error:
        if error.sent:
            error.hint = (
                "RunPod may have taken the job, so it was not sent again. "
                "`inv jobs.list` names it; `inv jobs.wait` looks for it at RunPod."
            )
        raise
    except Conflict as error:
        error.hint = f"Give endpoint {endpoint_id} at least one worker (workers max)."
        raise
    except NotFound as error:
        error.hint = "Check RUNPOD_ENDPOINT_ID: the endpoint does not exist, or is another account's."
        raise
    except AuthError as error:
        error.hint = "Check RUNPOD_API_KEY: it is mistyped, revoked, or another account's."
        raise
