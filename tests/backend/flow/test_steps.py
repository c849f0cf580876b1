"""Flows without I/O: the status table, the retry policy, what errors say."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from backend import errors
from backend.errors import ApiError, InvalidRequest, RateLimited, Unavailable
from backend.flow import Flow, Reply, Retry, Send, Sleep, ask, check, persist, with_query
from backend.flow.polling import poll
from backend.flow.retry import PROGRESS_BYTES, call_again
from backend.validation.printable import shown


def reply(status: int, body: Any = None, **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status=status, headers=headers, content=content, url="http://api.example/v2/x", method="GET")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.AuthError),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (418, errors.InvalidRequest),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (500, errors.Unavailable),
        (503, errors.Unavailable),
        (524, errors.Unavailable),
        (302, errors.InvalidRequest),
    ],
)
def test_a_failing_status_is_its_typed_error(status, kind):
    """Each status becomes the class of its row, with the call in its attributes."""
    with pytest.raises(ApiError) as caught:
        check(reply(status, {"detail": "no"}), "Try it")

    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.method) == (status, "GET")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"status": 404, "title": "Not Found", "detail": "endpoint not found"}, "endpoint not found"),
        ({"title": "Bad Request", "detail": "no", "errors": [{"location": "body.name", "message": "short"}]},
         "no; body.name: short"),
        ({"error": "not allowed for QB API"}, "not allowed for QB API"),
        ({"error": {"message": "Prompt has no outputs", "details": ""}}, "Prompt has no outputs"),
        ({"title": "Conflict"}, "Conflict"),
        (b"Maximum request body size exceeded.", "Maximum request body size exceeded"),
    ],
)  # fmt: skip
def test_an_error_says_what_the_server_said(body, message):
    """The words come from every shape that RunPod's planes and ComfyUI answer with."""
    with pytest.raises(InvalidRequest) as caught:
        check(reply(400, body), "Try it")

    assert caught.value.message == f"Try it: api.example answered 400: {message}."


def test_a_page_of_html_is_not_quoted():
    """What a proxy answers in the server's place tells a user nothing."""
    page = reply(502, b"<html>Bad gateway</html>", **{"content-type": "text/html"})

    with pytest.raises(Unavailable, match=r"answered 502\.$"):
        check(page, "Try it")


def test_errors_survive_a_pickle():
    """An error arrives with its attributes in another process, as Pulumi's and pools' do."""
    with pytest.raises(RateLimited) as caught:
        check(reply(429, {}, **{"retry-after": "7"}), "Try it")

    again = pickle.loads(pickle.dumps(caught.value))

    assert (type(again), str(again), again.retry_after_s) == (RateLimited, str(caught.value), 7.0)


def test_retry_after_may_be_a_date():
    """A date in the past means now."""
    with pytest.raises(RateLimited) as caught:
        check(reply(429, {}, **{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), "Try it")

    assert caught.value.retry_after_s == 0.0


def test_the_policy_backs_off_and_gives_up():
    """Delays double with jitter, respect what the server asked for, and end after the last attempt."""
    retry = Retry(attempts=4, first_s=1.0, most_s=3.0, jitter=lambda: 1.0)

    delays = [retry.next_delay(attempt) for attempt in (1, 2, 3, 4)]

    assert delays == [1.0, 2.0, 3.0, None]
    assert retry.next_delay(1, retry_after_s=8.0) == 8.0
    assert retry.next_delay(1, retry_after_s=3600.0) == 60.0


def play(flow: Flow[Any], answers: list[Any]) -> tuple[list[Any], Any]:
    """Hand a flow its answers, exceptions too; return the steps it took and its result."""
    steps, answer = [], None
    try:
        step = next(flow)
        while True:
            steps.append(step)
            answer = None if isinstance(step, Sleep) else answers.pop(0)
            step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration as stop:
        return steps, stop.value


def test_ask_tries_again_while_it_may_help():
    """A passing failure is tried again after a pause, a definite no is not."""
    step = Send("GET", "http://api.example/x")
    retry = Retry(first_s=1.0, jitter=lambda: 1.0)

    steps, result = play(
        ask(step, "Try it", retry=retry), [Unavailable("cut"), reply(503), reply(200, {"a": 1})]
    )

    assert steps == [step, Sleep(1.0), step, Sleep(2.0), step]
    assert result.json() == {"a": 1}
    with pytest.raises(InvalidRequest):
        play(ask(step, "Try it", retry=retry), [reply(400, {})])


def test_one_attempt_that_may_have_arrived_is_remembered():
    """A lost answer, then a refused connection: it is not "never sent", so nobody sends it elsewhere."""
    step, retry = Send("POST", "http://api.example/x"), Retry(attempts=2, first_s=0.0)

    with pytest.raises(Unavailable) as lost:
        play(ask(step, "Pay", retry=retry), [Unavailable("cut", sent=True), Unavailable("gone", sent=False)])
    with pytest.raises(Unavailable) as unsent:
        play(ask(step, "Pay", retry=retry), [Unavailable("gone", sent=False)] * 2)

    assert (lost.value.sent, unsent.value.sent) == (True, False)


def test_urls_are_shown_without_what_may_be_secret():
    """Neither a query, which may hold a token, nor credentials appear in a message."""
    assert shown("https://me:pw@host:1/a/b?token=1#x") == "https://host:1/a/b"
    assert (
        with_query("http://h/view", {"filename": "a b&ü.png"}) == "http://h/view?filename=a%20b%26%C3%BC.png"
    )


class Clock:
    """Seconds that pass only while a flow waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def failing(error: Exception, calls: list[str]) -> Any:
    def attempt() -> None:
        calls.append("attempt")
        raise error

    return attempt


@pytest.mark.parametrize(
    ("retry", "error", "attempts", "waited_s"),
    [
        (Retry(attempts=3, first_s=1.0, jitter=lambda: 1.0), Unavailable("cut"), 3, 3.0),
        (Retry(attempts=9, first_s=1.0, jitter=lambda: 1.0, budget_s=8.0), Unavailable("cut"), 4, 7.0),
        (Retry(attempts=2, first_s=1.0), RateLimited("slow", retry_after_s=90.0), 2, 60.0),
        (Retry(attempts=2, longest_retry_after_s=600.0), RateLimited("slow", retry_after_s=90.0), 2, 90.0),
        (Retry(attempts=9, budget_s=30.0), RateLimited("slow", retry_after_s=40.0), 1, 0.0),
        (Retry(), InvalidRequest("no"), 1, 0.0),
    ],
)
def test_plain_calls_and_flows_follow_one_policy(retry, error, attempts, waited_s):
    """The same number of attempts and the same waits, whether a thread sleeps them or a flow yields them."""
    calls: list[str] = []
    clock = Clock()
    with pytest.raises(type(error)):
        call_again(failing(error, calls), retry, wait=clock.wait, what="Try it", clock=clock)
    assert (len(calls), clock.now) == (attempts, waited_s)

    calls, clock = [], Clock()

    def once() -> Flow[None]:
        failing(error, calls)()
        yield from ()

    def run() -> None:
        for step in persist(once, retry=retry, clock=clock):
            assert isinstance(step, Sleep)
            clock.wait(step.seconds)

    with pytest.raises(type(error)):
        run()
    assert (len(calls), clock.now) == (attempts, waited_s)


def test_an_attempt_that_gets_further_is_the_first_again():
    """Only attempts without progress are counted, and a few bytes are no progress."""
    calls, done = [0], [0]

    def attempt() -> str:
        calls[0] += 1
        done[0] += PROGRESS_BYTES if calls[0] < 10 else PROGRESS_BYTES - 1
        raise Unavailable("cut")

    with pytest.raises(Unavailable):
        call_again(attempt, Retry(attempts=3), wait=lambda _: None, what="Read it", progress=lambda: done[0])

    assert calls == [9 + 2]


def test_a_policy_may_differ_by_error():
    """`when` says which errors are final, and which have a policy of their own."""
    paused = errors.Conflict("paused")
    failures = iter([paused, Unavailable("cut"), paused])
    patient = Retry(attempts=9, first_s=5.0, jitter=lambda: 1.0)

    def attempt() -> None:
        raise next(failures)

    waits: list[float] = []
    with pytest.raises(errors.Conflict):
        call_again(
            attempt,
            Retry(attempts=9, first_s=1.0, jitter=lambda: 1.0),
            wait=waits.append,
            what="Submit it",
            when=lambda error: patient if error is paused and not waits else error.retryable,
        )

    assert waits == [5.0, 2.0]


def test_a_wait_ends_at_its_deadline_with_the_last_trouble():
    """A look that fails in passing ends nothing; `Retry-After` delays the next; a refusal ends the wait."""
    clock = Clock()
    replies: Iterator[Any] = iter([None, RateLimited("slow", retry_after_s=7.0), *[Unavailable("cut")] * 9])

    def look() -> Flow[Any]:
        yield from ()
        reply = next(replies)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def late(trouble: ApiError | None) -> errors.WaitTimeout:
        return errors.WaitTimeout(f"too late: {trouble.message if trouble else ''}")

    waits = []

    def run() -> None:
        for step in poll(look, deadline_s=10.0, delay=lambda _: 2.0, clock=clock, too_late=late):
            assert isinstance(step, Sleep)
            waits.append(step.seconds)
            clock.wait(step.seconds)

    with pytest.raises(errors.WaitTimeout, match="too late: cut"):
        run()
    assert waits == [2.0, 7.0, 1.0]

    replies = iter([InvalidRequest("no")])
    with pytest.raises(InvalidRequest):
        run()
    replies = iter([None, "here"])
    _, answer = play(poll(look, deadline_s=10.0, delay=lambda _: 2.0, clock=clock, too_late=late), [])
    assert answer == "here"
