"""The fault table against the emulator: a real queue, the real runpod SDK in a real worker process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from backend.errors import (
    AuthError,
    Conflict,
    InvalidArgument,
    InvalidRequest,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    NotFound,
    RateLimited,
    Unavailable,
    WaitTimeout,
)
from backend.flow import Retry
from backend.flow.http_driver import Http
from backend.runpod.job_api import JobPlane
from backend.settings import Secret
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator

QUICK = Retry(attempts=4, first_s=0.02, most_s=0.1)


class Queue:
    """An endpoint of the echo worker, and the client under test."""

    def __init__(self, emu: Emulator, http: Http, **changes: Any) -> None:
        body = {
            "name": "echo",
            "type": "QUEUE",
            "image": "echo",
            "cpu": [{"id": "cpu3c", "vcpuCount": 2}],
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
            "workers": {"min": 0, "max": 1, "idleTimeout": 60},
        } | changes
        reply = emu.rest("POST", "/serverless", body)
        assert reply.status_code == 201, reply.text
        self.endpoint_id = str(reply.json()["id"])
        self.plane = JobPlane(emu.url("jobs"), Secret(emu.env["RUNPOD_API_KEY"]), retry=QUICK)
        self.emu, self.http = emu, http

    def call(self, job_input: dict[str, Any], *, deadline_s: float = 30.0, **options: Any) -> Any:
        return self.http.run(self.plane.call(self.endpoint_id, job_input, deadline_s=deadline_s, **options))

    def submissions(self) -> int:
        return len(self.emu.requests("POST", f"/jobs/v2/{self.endpoint_id}/run*"))


@pytest.fixture
def http() -> Iterator[Http]:
    with Http() as http:
        yield http


@pytest.fixture
def queue(emu, http) -> Queue:
    return Queue(emu, http)


@pytest.mark.slow
def test_a_job_comes_back(queue):
    """Through run and through runsync, from a worker that has to start first."""
    assert queue.call({"x": 1})["echo"] == {"x": 1}
    assert queue.call({"x": 2}, short=True)["echo"] == {"x": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job_input", "kind", "message"),
    [
        ({"do": "raise", "message": "no disk"}, JobFailed, "no disk"),
        ({"do": "error", "message": "no face"}, JobFailed, "no face"),
        ({"do": "die"}, JobFailed, "worker died"),
    ],
)
def test_a_worker_that_fails_says_why(emu, queue, job_input, kind, message):
    """It raises, returns an error, or is killed: one typed error that names the job."""
    if job_input["do"] == "die":
        emu.set(worker_lost_s=2.0)

    with pytest.raises(kind, match=message) as caught:
        queue.call(job_input)

    assert caught.value.job_id in str(caught.value)


@pytest.mark.slow
def test_a_worker_that_dies_once_is_no_failure(queue, tmp_path):
    """RunPod hands the job out again; the caller sees its result."""
    queue.emu.set(worker_lost_s=2.0)

    assert queue.call({"do": "die", "unless": str(tmp_path / "died")}) == {"survived": True}
    assert queue.submissions() == 1


@pytest.mark.slow
@pytest.mark.parametrize("status", ["TIMED_OUT", "FAILED"])
def test_a_job_past_its_time_ends_typed(emu, queue, status):
    """Whether the service calls it TIMED_OUT or FAILED, it is an error and no hang."""
    emu.set(timeout_status=status)
    policy = {"executionTimeout": 5000}
    flow = queue.plane.call(
        queue.endpoint_id, {"do": "wait", "seconds": 600}, deadline_s=HANG_S, policy=policy
    )

    def let_time_pass(event: Any) -> None:
        if event.get("state") == "IN_PROGRESS":
            emu.advance(10)

    with pytest.raises(JobError) as caught:
        queue.http.run(flow, on_progress=let_time_pass)

    assert isinstance(caught.value, JobExpired if status == "TIMED_OUT" else JobFailed)


def test_a_job_that_nobody_takes_is_cancelled_at_the_deadline(emu, http):
    """With no free machine the wait ends in a WaitTimeout, and the job is not left to run later."""
    emu.set(shortage=["cpu3c"])
    queue = Queue(emu, http)

    with pytest.raises(WaitTimeout, match="it is IN_QUEUE") as caught:
        queue.call({"x": 1}, deadline_s=2.0)

    status = http.run(queue.plane.status(queue.endpoint_id, caught.value.job_id or ""))
    assert status.state == "CANCELLED"


@pytest.mark.slow
def test_a_worker_that_never_starts_does_not_hold_the_caller_for_ever(emu, http):
    """Its program ends as soon as it begins: the job stays in the queue, and is cancelled at the deadline."""
    queue = Queue(emu, http, image="crash")

    with pytest.raises(WaitTimeout, match=r"did not end within .* It was cancelled") as caught:
        queue.call({"x": 1}, deadline_s=2.0)

    status = http.run(queue.plane.status(queue.endpoint_id, caught.value.job_id or ""))
    assert status.state == "CANCELLED"
    assert queue.submissions() == 1


def test_a_job_that_somebody_cancels_is_said(emu, http):
    """Another's cancel ends the wait with its own error."""
    emu.set(shortage=["cpu3c"])
    queue = Queue(emu, http)
    job_id = http.run(queue.plane.submit(queue.endpoint_id, {"x": 1}))
    assert http.run(queue.plane.cancel(queue.endpoint_id, job_id)) is True

    with pytest.raises(JobCancelled):
        http.run(queue.plane.wait(queue.endpoint_id, job_id, deadline_s=HANG_S))


@pytest.mark.slow
def test_a_result_that_is_no_longer_kept_has_expired(emu, queue):
    """After RunPod's half hour there is nothing to fetch."""
    job_id = queue.http.run(queue.plane.submit(queue.endpoint_id, {"x": 1}))
    queue.http.run(queue.plane.wait(queue.endpoint_id, job_id, deadline_s=HANG_S))
    emu.advance(3600)

    with pytest.raises(JobExpired, match="expired, or its result is no longer kept"):
        queue.http.run(queue.plane.wait(queue.endpoint_id, job_id, deadline_s=HANG_S))


@pytest.mark.slow
def test_a_job_that_is_not_known_yet_is_waited_for(emu, queue):
    """RunPod's 404 just after run is no end."""
    emu.set(propagation_delay_s=0.3)

    assert queue.call({"x": 1})["echo"] == {"x": 1}


@pytest.mark.slow
def test_a_paused_endpoint_that_comes_back_gets_its_job(emu, http):
    """ENDPOINT_PAUSED is a definite no, so the same job may be submitted again."""
    queue = Queue(emu, http)
    emu.fault(
        f"/jobs/v2/{queue.endpoint_id}/run",
        status=409,
        body={"status": 409, "title": "Conflict", "detail": "Endpoint is paused", "code": "ENDPOINT_PAUSED"},
    )

    assert queue.call({"x": 1})["echo"] == {"x": 1}
    assert queue.submissions() == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [{"status": 429, "headers": {"retry-after": "0"}}, {"status": 500}, {"cut": "before"}, {"cut": 5}],
    ids=["429", "500", "cut before", "cut in the middle"],
)
def test_trouble_with_status_does_not_lose_the_job(emu, queue, fault):
    """Whatever happens to the polls, the job's result arrives."""
    emu.fault(f"/jobs/v2/{queue.endpoint_id}/status*", times=2, **fault)

    assert queue.call({"x": 1})["echo"] == {"x": 1}
    assert queue.submissions() == 1


@pytest.mark.parametrize(
    ("fault", "kind", "submissions"),
    [
        ({"cut": "after"}, Unavailable, 1),
        ({"cut": 10}, Unavailable, 1),
        ({"status": 500}, Unavailable, 1),
        ({"status": 429, "times": 0}, RateLimited, 4),
    ],
    ids=["cut after", "cut in the middle", "500", "429 for ever"],
)
def test_a_submission_that_fails_is_paid_once(emu, queue, fault, kind, submissions):
    """A lost answer is never repeated; a 429 is a definite no and is, a few times."""
    emu.fault(f"/jobs/v2/{queue.endpoint_id}/run", method="POST", **fault)

    with pytest.raises(kind):
        queue.call({"x": 1})

    assert queue.submissions() == submissions


@pytest.mark.slow
def test_a_submission_that_was_certainly_not_taken_is_sent_again(emu, queue):
    """A 429 is a definite no."""
    emu.fault(
        f"/jobs/v2/{queue.endpoint_id}/run", method="POST", times=2, status=429, headers={"retry-after": "0"}
    )

    assert queue.call({"x": 1})["echo"] == {"x": 1}
    assert queue.submissions() == 3


def test_an_oversized_job_is_refused_by_whoever_sees_it_first(emu, queue):
    """By us with size and limit; where RunPod's limit is another than we know, by RunPod, as what it is."""
    emu.set(run_body_bytes=1000)

    with pytest.raises(InvalidRequest):
        queue.call({"x": "y" * 2000})
    with pytest.raises(InvalidArgument, match=r"11\.0 MB as JSON.* takes at most 10\.0 MB"):
        queue.call({"x": "y" * 11_000_000})


@pytest.mark.slow
def test_an_oversized_answer_of_a_worker_is_an_error(emu, queue):
    """RunPod refuses it, so the job fails; the caller learns it and does not hang."""
    emu.set(output_body_bytes=100_000, worker_lost_s=2.0)

    with pytest.raises(JobFailed):
        queue.call({"do": "big", "bytes": 200_000})


@pytest.mark.slow
def test_progress_arrives_and_its_stragglers_do_no_harm(queue):
    """Updates come in any order, some after the result; the result is the result."""
    events: list[Any] = []
    flow = queue.plane.call(
        queue.endpoint_id, {"do": "progress", "steps": 12, "every_s": 0.1}, deadline_s=HANG_S
    )

    assert queue.http.run(flow, on_progress=events.append) == {"steps": 12}
    assert [event for event in events if "step" in event] != []


def test_wrong_keys_and_endpoints_are_told_apart(emu, queue):
    """Each says which setting to look at."""
    stranger = JobPlane(emu.url("jobs"), Secret("rpa_wrong"), retry=QUICK)

    with pytest.raises(AuthError, match="RUNPOD_API_KEY"):
        queue.http.run(stranger.submit(queue.endpoint_id, {"x": 1}))
    with pytest.raises(NotFound, match="RUNPOD_ENDPOINT_ID"):
        queue.http.run(queue.plane.submit("nope", {"x": 1}))
    with pytest.raises(InvalidRequest, match="executionTimeout"):
        queue.http.run(queue.plane.submit(queue.endpoint_id, {"x": 1}, policy={"executionTimeout": 1}))


def test_an_endpoint_that_may_have_no_workers_is_said(emu, http):
    """It is paused for good; the error says what to change."""
    paused = Queue(emu, http, workers={"min": 0, "max": 0, "idleTimeout": 60})
    minutes = itertools.count(0, 60)
    paused.plane = JobPlane(
        emu.url("jobs"), Secret(emu.env["RUNPOD_API_KEY"]), clock=lambda: float(next(minutes)), retry=QUICK
    )

    with pytest.raises(Conflict, match="at least one worker"):
        paused.call({"x": 1})
