"""The job plane's rules by hand: no socket, no clock but ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backend.errors import (
    Conflict,
    InvalidArgument,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotFound,
    Unavailable,
    WaitTimeout,
)
from backend.flow import Flow, Progress, Reply, Retry, Send, Sleep
from backend.jobs.status import JobStatus, outcome, words
from backend.runpod.job_api import JobPlane, poll_delay
from backend.settings import Secret

ENDED = {"id": "j", "status": "COMPLETED", "output": {"a": 1}}
PAUSED = {"status": 409, "title": "Conflict", "detail": "Endpoint is paused", "code": "ENDPOINT_PAUSED"}
RAISED = json.dumps({"error_type": "<class 'ValueError'>", "error_message": "no"})
GONE = {"status": 404, "title": "Not Found", "detail": "job not found"}


class Play:
    """Drives a flow: sleeping moves a clock, each request takes the next answer."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.now = 0.0
        self.sent: list[str] = []
        self.told: list[Any] = []
        self.states: list[str] = []
        self.plane = JobPlane(
            "http://jobs.example/v2",
            Secret("rpa_1"),
            clock=lambda: self.now,
            retry=Retry(attempts=3, first_s=1.0, jitter=lambda: 1.0),
        )

    def note(self, job: JobStatus) -> Flow[None]:
        self.states.append(job.state)
        yield from ()

    def run(self, flow: Flow[Any]) -> Any:
        answer: Any = None
        try:
            step = next(flow)
            while True:
                answer = self._answer(step)
                step = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
        except StopIteration as stop:
            return stop.value

    def _answer(self, step: Any) -> Any:
        match step:
            case Sleep():
                self.now += step.seconds
            case Progress():
                self.told.append(step.event)
            case Send():
                self.sent.append(f"{step.method} {step.url.removeprefix('http://jobs.example/v2/ep/')}")
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if isinstance(answer, BaseException):
                    return answer
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                return Reply(status=status, headers={}, content=json.dumps(body).encode(), url=step.url)
        return None


def waiting(play: Play, **options: Any) -> Any:
    return play.run(play.plane.wait("ep", "j", **{"deadline_s": 600.0, **options}))


def test_a_lost_answer_to_run_is_not_sent_again():
    """The job may be queued and paid for: the error says so, and there was one POST."""
    play = Play(Unavailable("cut", sent=True))

    with pytest.raises(Unavailable) as caught:
        play.run(play.plane.submit("ep", {"action": "portrait"}))

    assert play.sent == ["POST run"]
    assert "may have taken the job" in str(caught.value)


@pytest.mark.parametrize(
    "first",
    [Unavailable("refused", sent=False), (429, {"detail": "slow down"}), (409, PAUSED)],
    ids=["not sent", "429", "paused"],
)
def test_a_run_that_was_certainly_not_taken_is_sent_again(first):
    """Where RunPod cannot have queued it, the job is submitted once more."""
    play = Play(first, {"id": "j", "status": "IN_QUEUE"})

    job_id = play.run(play.plane.submit("ep", {"action": "portrait"}))

    assert (job_id, play.sent) == ("j", ["POST run", "POST run"])


def test_a_server_error_on_run_is_not_sent_again():
    """A 500 says nothing about whether the job was queued before it."""
    play = Play((500, {"detail": "internal server error"}))

    with pytest.raises(Unavailable):
        play.run(play.plane.submit("ep", {"action": "portrait"}))

    assert play.sent == ["POST run"]


def test_an_endpoint_that_stays_paused_is_said():
    """After half a minute the refusal is final, and says what to do."""
    play = Play((409, PAUSED))

    with pytest.raises(Conflict, match="at least one worker"):
        play.run(play.plane.submit("ep", {"action": "portrait"}))

    assert 30 <= play.now < 40


@pytest.mark.parametrize("size", [10_000_001, 30_000_000])
def test_a_job_over_the_limit_is_refused_here(size):
    """Nothing is sent; the message has the size, the limit and the ways out."""
    play = Play(ENDED)

    with pytest.raises(InvalidArgument, match=r"takes at most 10\.0 MB.*volume.*https://") as caught:
        play.run(play.plane.submit("ep", {"data": "x" * size}))

    assert play.sent == []
    assert f"{size / 1e6:.1f} MB" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ({"status": "FAILED", "error": "job timed out after 1 retries"}, JobFailed, "worker died"),
        ({"status": "FAILED", "error": RAISED}, JobFailed, "ValueError: no"),
        ({"status": "FAILED"}, JobFailed, "gave no reason"),
        ({"status": "COMPLETED", "output": {"status": "error", "error": "no face"}}, JobFailed, "no face"),
        ({"status": "CANCELLED"}, JobCancelled, "was cancelled"),
        ({"status": "TIMED_OUT"}, JobExpired, "timed out before a worker finished it"),
    ],
)  # fmt: skip
def test_every_end_has_its_own_error(body, kind, message):
    """Each of RunPod's ends, and each shape of an error, becomes one typed error that names the job."""
    play = Play({"id": "j", **body})

    with pytest.raises(kind) as caught:
        waiting(play)

    assert message in str(caught.value)
    assert caught.value.job_id == "j"


def test_a_state_that_is_new_to_us_is_waited_for():
    """RunPod may add states; one that is not known is no end."""
    play = Play({"id": "j", "status": "PAUSED_BY_MOON"}, {"id": "j", "status": "RUNNING"}, ENDED)

    assert waiting(play) == {"a": 1}
    assert [event.get("state") for event in play.told] == ["UNKNOWN", "IN_PROGRESS"]


def test_a_fresh_job_may_be_unknown_for_a_while():
    """A 404 just after run is waited out, through the plain status."""
    play = Play((404, GONE), (404, GONE), ENDED)

    assert waiting(play, fresh=True) == {"a": 1}
    assert play.sent == ["GET status-sync/j", "GET status/j", "GET status/j"]


def test_a_fresh_job_that_stays_unknown_is_given_up():
    """After the grace it counts as expired."""
    play = Play((404, GONE))

    with pytest.raises(JobExpired, match="does not know job j"):
        waiting(play, fresh=True)

    assert play.now > 150


def test_a_job_that_was_seen_and_is_gone_has_expired():
    """Its result is no longer kept: there is nothing to wait for."""
    play = Play({"id": "j", "status": "IN_PROGRESS"}, (404, GONE))

    with pytest.raises(JobExpired):
        waiting(play, fresh=True)

    assert play.now < 10


def test_an_unknown_endpoint_is_not_an_expired_job():
    """RunPod's 404 has two meanings, told apart by its words."""
    play = Play((404, {"detail": "endpoint not found"}))

    with pytest.raises(NotFound, match="endpoint not found"):
        waiting(play)


def test_trouble_on_the_way_does_not_end_the_wait():
    """The job goes on while RunPod's front has a bad minute, so the wait does too."""
    play = Play((500, {}), Unavailable("cut"), (429, {}), (502, {}), ENDED)

    assert waiting(play) == {"a": 1}


def test_the_deadline_ends_the_wait_and_not_the_job():
    """The error names the job, how it was last, and how to come back."""
    play = Play({"id": "j", "status": "IN_QUEUE"})

    with pytest.raises(WaitTimeout) as caught:
        waiting(play, deadline_s=30.0)

    assert (play.now, caught.value.job_id) == (30.0, "j")
    assert "it is IN_QUEUE" in str(caught.value)
    assert "backend.resume('j')" in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug in a callback")])
def test_whoever_leaves_a_call_cancels_its_job(error):
    """Ctrl-C, or an error of the caller's own, costs no more GPU seconds."""
    queued = {"id": "j", "status": "IN_QUEUE"}
    play = Play(queued, error, queued, {"id": "j", "status": "CANCELLED"})

    with pytest.raises(type(error)):
        play.run(play.plane.call("ep", {"a": 1}, deadline_s=60.0, on_status=play.note))

    assert play.sent == ["POST run", "GET status-sync/j", "GET status/j", "POST cancel/j"]
    assert play.states == ["IN_QUEUE", "CANCELLED"]


def test_a_job_that_ends_at_the_deadline_is_not_cancelled():
    """RunPod would say CANCELLED of a result that is paid for: its state is asked first."""
    queued = {"id": "j", "status": "IN_QUEUE"}
    play = Play(queued, queued, ENDED)

    assert play.run(play.plane.call("ep", {"a": 1}, deadline_s=0.0, on_status=play.note)) == {"a": 1}

    assert play.sent == ["POST run", "GET status-sync/j", "GET status/j"]
    assert play.states == ["IN_QUEUE", "IN_QUEUE", "COMPLETED"]


@pytest.mark.parametrize("times", [1, 3])
def test_a_job_is_not_gone_because_of_a_few_404s(times):
    """One that was seen is asked for again; RunPod has its result."""
    play = Play({"id": "j", "status": "IN_PROGRESS"}, *[(404, GONE)] * times, ENDED)

    assert waiting(play) == {"a": 1}


def test_a_job_that_stays_unknown_is_gone():
    """After several looks over some seconds."""
    play = Play({"id": "j", "status": "IN_PROGRESS"}, (404, GONE))

    with pytest.raises(JobExpired):
        waiting(play)

    assert play.now >= 2.0
    assert len(play.sent) >= 5


def test_a_call_past_its_deadline_cancels_its_job():
    """The worker is not left running for a result that nobody will fetch."""
    play = Play({"id": "j", "status": "IN_QUEUE"})

    with pytest.raises(WaitTimeout, match="It was cancelled"):
        play.run(play.plane.call("ep", {"a": 1}, deadline_s=20.0))

    assert play.sent[-1] == "POST cancel/j"


def test_a_short_call_that_ends_at_once_is_one_request():
    """What runsync answers within its hold needs no poll."""
    play = Play(ENDED)

    assert play.run(play.plane.call("ep", {"a": 1}, deadline_s=20.0, short=True)) == {"a": 1}
    assert play.sent == ["POST runsync"]


def test_progress_is_told_once_a_change():
    """A repeated progress value is no news; a value that is no object is wrapped."""
    answers = [{"id": "j", "status": "IN_PROGRESS", "output": output} for output in (1, 1, {"step": 2})]
    play = Play(*answers, ENDED)

    waiting(play)

    state = {"progress": "job", "state": "IN_PROGRESS", "job_id": "j"}
    assert play.told == [state, {"progress": 1}, {"step": 2}]


def test_polls_keep_their_promise_and_the_rate_limit():
    """An answer is late by at most 4 % and 10 ms; a crowd shares a hundred polls a second."""
    assert poll_delay(0.0) == 0.01
    assert poll_delay(0.3) == pytest.approx(0.022)
    assert poll_delay(3600.0) == 5.0
    assert poll_delay(0.0, waiting=300) == pytest.approx(2.99)


def test_a_worker_error_is_put_into_a_sentence():
    """What the runpod SDK posts for an exception is its message, with a type that says something."""
    raised = {"error_type": "<class 'worker.errors.Boom'>", "error_message": "no disk", "worker_id": "w"}

    assert words(json.dumps(raised)) == "Boom: no disk"
    assert words(json.dumps({**raised, "error_type": "<class 'RuntimeError'>"})) == "no disk"
    assert words("plain words") == "plain words"
    assert words({"code": 3}) == '{"code": 3}'


def test_an_output_is_given_back_as_it_came():
    """A worker may answer with anything, not only with an object."""
    assert outcome(JobStatus(id="j", state="COMPLETED", output=[1, 2])) == [1, 2]


def test_jobs_of_one_endpoint_share_their_polls():
    """RunPod allows 2,000 requests in 10 s: with 300 jobs waiting, each asks every 3 s only."""
    play = Play((404, {"title": "no status-sync"}), {"id": "j", "status": "IN_QUEUE"}, ENDED)
    others = [play.plane.wait("ep", f"other-{number}", deadline_s=600.0) for number in range(299)]
    for other in others:
        next(other)

    assert waiting(play) == {"a": 1}
    assert play.now == pytest.approx(2.99)
    for other in others:
        other.close()
