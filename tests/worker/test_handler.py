"""Jobs in, answers out: failures are sentences, a cancelled job stops, progress comes before the result."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from backend.errors import HashMismatch
from tests.support.deadlines import HANG_S
from worker.handler import Handler
from worker.jobs.progress import ProgressReport


def handler(work: Any, **options: Any) -> Handler:
    return Handler(work=work, version="1.0", **({"jobs_at_once": 2, "post_progress": None} | options))


async def test_an_answer_is_framed():
    """What the work gives is between the keys that every answer has."""

    def work(request, stop, tell):
        return {"seed": request.params["seed"]}

    answer = await handler(work).handle({"id": "j", "input": {"prompt": "x", "seed": 7}})

    assert answer == {
        "contract": 2,
        "worker_version": "1.0",
        "version": "1.0",
        "action": "portrait",
        "status": "success",
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (HashMismatch("Other bytes.", hint="Send it again."), "Other bytes. Send it again."),
        (ZeroDivisionError("division by zero"), "This is a fault of the worker; its log has the traceback."),
    ],
)
async def test_a_failure_becomes_an_error(error, says):
    """The worker lives on, and the SDK finds an `error` to end the job FAILED with."""

    def work(*_):
        raise error

    answer = await handler(work).handle({"id": "j", "input": {"prompt": "x"}})

    assert answer["error"].endswith(says)
    assert "status" not in answer


async def test_a_job_that_cannot_be_read_fails_alone():
    """A wrong job is its sender's fault, in a sentence."""
    answer = await handler(None).handle({"id": "j", "input": {"action": "dance"}})

    assert answer["error"].startswith("Unknown action 'dance'.")


async def test_two_jobs_run_at_the_same_time():
    """Two that wait for each other can only both end if neither waits for the other's end."""
    meeting = threading.Barrier(2, timeout=HANG_S)

    def work(*_):
        return {"met": meeting.wait() in {0, 1}}

    jobs = handler(work)
    answers = await asyncio.gather(*(jobs.handle({"id": str(n), "input": {"prompt": "x"}}) for n in range(2)))

    assert [answer["met"] for answer in answers] == [True, True]


async def test_a_cancelled_job_stops_its_work_before_it_is_gone():
    """The next job needs what this one holds, so the cancellation waits until the work has ended."""
    started, ended = threading.Event(), threading.Event()

    def work(request, stop, tell):
        started.set()
        try:
            stop.wait(HANG_S)
        finally:
            ended.set()

    job = asyncio.create_task(handler(work).handle({"id": "j", "input": {"prompt": "x"}}))
    await asyncio.to_thread(started.wait, 10)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job

    assert ended.is_set()


async def test_progress_is_in_order_and_never_after_the_result():
    """A word that arrives after the result can leave a job IN_PROGRESS for ever."""
    lines: list[Any] = []
    posted = threading.Event()

    async def post(job, event):
        await asyncio.sleep(0.01)
        lines.append(event["n"])
        posted.set()

    def work(request, stop, tell):
        tell({"n": 1})
        tell({"n": 2})
        posted.wait(HANG_S)
        tell({"n": 3})
        return {}

    await handler(work, post_progress=post).handle({"id": "j", "input": {"prompt": "x"}})
    lines.append("result")
    await asyncio.sleep(0.05)

    assert lines == [2, "result"]


async def test_progress_posts_only_the_latest_word():
    """A hundred words within the interval are one post."""
    lines: list[Any] = []
    first = asyncio.Event()

    async def post(event):
        lines.append(event["n"])
        first.set()

    async with ProgressReport(post, interval_s=0.01) as report:
        for n in range(100):
            report.tell({"n": n})
        await first.wait()

    assert lines == [99]


async def test_progress_that_cannot_be_posted_costs_no_job():
    """RunPod may refuse it or be away for a moment; the result is what counts."""
    refused = threading.Event()

    async def post(job, event):
        refused.set()
        raise OSError("no route")

    def work(request, stop, tell):
        tell({"n": 1})
        refused.wait(HANG_S)
        return {"seed": 7}

    answer = await handler(work, post_progress=post).handle({"id": "j", "input": {"prompt": "x"}})

    assert answer["seed"] == 7


@pytest.mark.slow
async def test_a_cancelled_job_prints_no_traceback(caplog, capfd):
    """Its work ends with an exception that nobody waits for."""
    begun = threading.Event()

    def work(_request, stop, _tell):
        begun.set()
        stop.wait(HANG_S)

    task = asyncio.create_task(handler(work).handle({"id": "j1", "input": {"action": "health"}}))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.wait([task])
    gc.collect()

    assert task.cancelled()
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())
