"""The fault table of the cloud backend: every code of the document, every end of a job, on real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backend import (
    AsyncBackend,
    AuthError,
    Backend,
    Conflict,
    Forbidden,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotFound,
    NotSupported,
    RateLimited,
    Unavailable,
    WaitTimeout,
)
from tests.support.cloud_server import API, envelope, flows_for, job_body, jobs_of
from tests.support.comfyui_program import slow, txt2img
from tests.support.deadlines import HANG_S
from tests.support.emulation import until

pytest_plugins = ["tests.support.cloud_backend"]


# --- every error code of the document -----------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (401, "unauthorized", AuthError, "Check the key"),
        (402, "insufficient_credits", Forbidden, "Buy credits"),
        (403, "forbidden", Forbidden, "Check the permissions of the key"),
        (404, "not_found", NotFound, "because of not_found"),
        (404, "blob_not_found", NotFound, "because of blob_not_found"),
        (409, "hash_mismatch", Conflict, "because of hash_mismatch"),
        (409, "asset_in_use", Conflict, "because of asset_in_use"),
        (422, "invalid_workflow", JobFailed, "refuses the workflow: because of invalid_workflow"),
        (422, "workflow_format_ui", InvalidRequest, "Export (API)"),
        (422, "missing_asset", NotFound, "no longer kept"),
        (422, "idempotency_key_reuse", Conflict, "look before you run it again"),
        (422, "deployment_stopped", Conflict, "Start the deployment"),
        (429, "queue_full", RateLimited, "Too many jobs wait"),
        (429, "deployment_not_ready", RateLimited, "still starting"),
        (429, "rate_limited", RateLimited, "because of rate_limited"),
        (429, "too_many_streams", RateLimited, "because of too_many_streams"),
        (500, "upstream_error", Unavailable, "because of upstream_error"),
        (503, "upstream_unreachable", Unavailable, "because of upstream_unreachable"),
    ],
)
def test_every_code_has_its_error(emu, cloud, status, code, error, message):
    """A submission that is refused is a failed result with the typed error, its words and what helps."""
    headers = {"Retry-After": "3600"} if status == 429 else {}
    emu.fault(f"{API}/jobs", method="POST", times=0, status=status, body=envelope(code), headers=headers)

    result = cloud.workflow(slow())

    assert type(result.exception) is error
    assert message in str(result.error)


def test_what_a_server_does_not_do_is_not_supported(emu, cloud):
    """501 is nobody's mistake; another backend can."""
    emu.fault(f"{API}/jobs", method="POST", status=501, body=envelope("not_implemented"))

    with pytest.raises(NotSupported, match="does not do that"):
        cloud.workflow(slow())


def test_a_full_queue_and_a_starting_deployment_are_waited_for(emu, cloud):
    """429 with Retry-After is no failure while there is time."""
    for code in ("deployment_not_ready", "queue_full"):
        emu.fault(f"{API}/jobs", method="POST", status=429, body=envelope(code), headers={"Retry-After": "0"})

    assert cloud.workflow(slow()).raise_for_failure().success


def test_problems_of_nodes_are_named_in_either_shape(emu, cloud):
    """ComfyUI's own, as a proxy hands it on, and the document's list of field and reason."""
    graph = txt2img(checkpoint="nope.safetensors")
    details = {"node_errors": {"3": [{"field": "model", "reason": "missing_input"}]}}
    own = cloud.workflow(graph)
    body = {"error": {"code": "invalid_workflow", "message": "no", "details": details}}
    emu.fault(f"{API}/jobs", method="POST", status=422, body=body)
    listed = cloud.workflow(graph)

    assert "node 4 (CheckpointLoaderSimple): ckpt_name 'nope.safetensors' is not available" in str(own.error)
    assert listed.error == "ComfyUI refuses the workflow: node 3 (KSampler): missing_input (model)."


# --- submitted once -------------------------------------------------------------


def test_an_answer_that_is_lost_is_not_paid_for_twice(emu, cloud):
    """The same key goes out again; the server says that it knows it, and the error says what is known."""
    emu.fault(f"{API}/jobs", method="POST", cut="after")

    result = cloud.workflow(slow())

    assert isinstance(result.exception, Unavailable)
    assert result.exception.sent
    assert "Nothing was sent twice" in str(result.error)
    assert len(emu.requests("POST", f"{API}/jobs")) == 2
    assert len(jobs_of(emu)) == 1


def test_a_request_that_is_lost_is_sent_again(emu, cloud):
    """Nothing had happened: the second attempt makes the job."""
    emu.fault(f"{API}/jobs", method="POST", cut="before")

    assert cloud.workflow(slow()).raise_for_failure().success
    assert len(jobs_of(emu)) == 1


def test_a_server_that_does_not_run_is_one_clear_line(tmp_path, emu):
    """The message names the address, the hint the variable that sets it."""
    with Backend(flows_for(emu, tmp_path, COMFY_API_URL="http://127.0.0.1:9")) as nobody:
        health, result = nobody.health_check(), nobody.workflow(slow())

    assert (health.healthy, result.success) == (False, False)
    assert "http://127.0.0.1:9" in str(health.error)
    assert "set COMFY_API_URL" in str(health.error)
    assert isinstance(result.exception, Unavailable)
    assert not result.exception.sent


# --- how jobs end ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (job_body("canceled"), JobCancelled, "Job j1 was cancelled."),
        (job_body("failed"), JobFailed, "Job j1: it failed: no reason given."),
        (
            job_body(
                "failed",
                error={
                    "code": "node_execution_error",
                    "message": "boom\nmore",
                    "node_id": "2",
                    "class_type": "X",
                },
            ),
            JobFailed,
            "Job j1: node 2 (X) failed: boom.",
        ),
        (job_body("expired"), JobExpired, "expired before it ended"),
        (job_body("succeeded"), JobFailed, "produced no file"),
    ],
)
def test_every_end_has_its_error(emu, cloud, body, error, message):
    """At once, and with the node where the server names it."""
    emu.fault(f"{API}/jobs/*", method="GET", times=0, status=200, body=body)

    result = cloud.workflow(slow())

    assert type(result.exception) is error
    assert message in str(result.error)


def test_an_expired_that_passes_is_not_believed(emu, cloud):
    """A proxy says so for the moment in which ComfyUI moves a job from its queue to its history."""
    emu.fault(f"{API}/jobs/*", method="GET", times=2, status=200, body=job_body("expired"))

    assert cloud.workflow(slow()).raise_for_failure().success


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "body": envelope("upstream_error")},
        {"status": 429, "body": envelope("rate_limited"), "headers": {"Retry-After": "0"}},
        {"status": 200, "body": job_body("thinking")},
        {"cut": "before"},
    ],
)
def test_a_look_that_fails_changes_nothing(emu, cloud, fault):
    """The job goes on, and so does the waiting; a status that nobody knows is waited out."""
    emu.fault(f"{API}/jobs/*", method="GET", times=2, **fault)

    assert cloud.workflow(slow()).raise_for_failure().success


def test_a_job_that_is_forgotten_is_said(emu, cloud):
    """404 of a job is the end of its retention, not a mistake of ours."""
    emu.fault(f"{API}/jobs/*", method="GET", status=404, body=envelope("not_found"))

    result = cloud.workflow(slow())

    assert isinstance(result.exception, JobExpired)
    assert "(any more)" in str(result.error)


def test_the_deadline_cancels_the_job(emu, cloud):
    """Nothing is left running that is paid for."""
    result = cloud.workflow(slow(1000, 0.05), timeout_s=3.0)

    assert isinstance(result.exception, WaitTimeout)
    assert "It was cancelled" in str(result.error)
    until(lambda: [job["status"] for job in jobs_of(emu)] == ["canceled"])


def test_ctrl_c_cancels_the_job(emu, cloud):
    """What is raised during the wait ends the job before it is passed on."""

    def press(event: Any) -> None:
        if event.get("state") == "running":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cloud.workflow(slow(1000, 0.05), on_progress=press)

    until(lambda: [job["status"] for job in jobs_of(emu)] == ["canceled"])


def test_a_cancelled_task_cancels_the_job(emu, flows):
    """The same through the face that is awaited."""

    async def main() -> None:
        async with AsyncBackend(flows, deadline_s=HANG_S) as cloud:
            started = asyncio.Event()
            call = cloud.workflow(slow(1000, 0.05), on_progress=lambda _: started.set())
            task = asyncio.create_task(call)
            await started.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())

    until(lambda: [job["status"] for job in jobs_of(emu)] == ["canceled"])


def test_a_job_is_in_the_journal_whatever_becomes_of_it(emu, cloud, flows):
    """With the backend that runs it, so that it can be found and resumed by anybody."""
    done = cloud.workflow(slow()).raise_for_failure()
    emu.fault(f"{API}/jobs", method="POST", status=402, body=envelope("insufficient_credits"))
    cloud.workflow(slow())
    refused, remaining = flows.journal.entries()

    assert (remaining.backend, remaining.job_id, remaining.state) == ("cloud", done.job_id, "COMPLETED")
    assert (refused.job_id, refused.state) == ("", "NOT_SUBMITTED")
