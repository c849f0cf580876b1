"""What whoever waits for a job on the volume is told while no worker takes it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ops.stores.queue_notice import QueueWatch
from tests.support.deadlines import HANG_S


def event(job_id: str, state: str) -> dict[str, Any]:
    """Make an event of the job client."""
    return {"progress": "job", "job_id": job_id, "state": state}


def test_a_job_that_nobody_takes_is_said_once():
    """One sentence, however many jobs wait and however long."""
    lines: list[str] = []
    spoken = threading.Event()

    def say(sentence: str) -> None:
        lines.append(sentence)
        spoken.set()

    with QueueWatch(say, quiet_s=0) as watch:
        watch(event("a", "IN_QUEUE"))
        watch(event("b", "IN_QUEUE"))
        assert spoken.wait(HANG_S)
        watch(event("c", "IN_QUEUE"))

    assert lines == [
        "Waiting for a worker: one starts from cold, or RunPod has none free. Ctrl-C ends the wait."
    ]


@pytest.mark.parametrize(
    "events",
    [
        [("a", "IN_PROGRESS"), ("b", "IN_QUEUE")],
        [("a", "IN_QUEUE"), ("a", "IN_PROGRESS")],
        [("a", "IN_QUEUE"), ("a", "COMPLETED")],
        [("a", "IN_QUEUE"), ("b", "IN_PROGRESS")],
        [],
    ],
    ids=["behind another", "taken", "done", "another taken", "no job"],
)
def test_what_is_no_news(events: list[tuple[str, str]]):
    """A job that was taken, or that waits behind one that was, leaves nothing to be said."""
    before = set(threading.enumerate())
    with QueueWatch(pytest.fail, quiet_s=3600) as watch:
        for job_id, state in events:
            watch(event(job_id, state))
        waiting = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        for timer in waiting:
            timer.join(HANG_S)  # a cancelled one ends; one that still waits does not

        assert [timer for timer in waiting if timer.is_alive()] == []
    assert set(threading.enumerate()) - before == set()
