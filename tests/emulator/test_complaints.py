"""Where the emulator was started it says why a worker does not run: once a cause, and where its log lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.emulator.test_jobs import ENDPOINT
from tests.emulator.test_jobs import run as queue_job
from tests.support.echo_endpoint import endpoint, run
from tests.support.emulation import IMAGES, Emulator, running_emulator, until

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Terminal:
    """An emulator of its own, and what is said where it was started.

    Attributes:
        words: a file; the image `words` writes it to stderr and ends with 3.
    """

    emu: Emulator
    said: Path
    words: Path

    def lines(self) -> list[str]:
        """Return what was said so far."""
        return self.said.read_text().splitlines()

    def until_said(self, words: str) -> str:
        """Wait for a line that holds some words, and return the first."""
        found = until(lambda: [line for line in self.lines() if words in line])
        return str(found[0])

    def queue(self, endpoint_id: str) -> None:
        """Submit a job, so that a worker is wanted."""
        self.emu.jobs("POST", f"/{endpoint_id}/run", {"input": {"a": 1}})

    def worker(self, endpoint_id: str) -> str:
        """Return the id of an endpoint's one worker."""
        workers = self.emu.state()["workers"]
        return next(str(worker["id"]) for worker in workers if worker["endpointId"] == endpoint_id)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Start an emulator whose stderr is a file."""
    folder = tmp_path_factory.mktemp("terminal")
    message, words = folder / "said", folder / "words"
    images = {**IMAGES, "words": f"sh -c 'cat {words} >&2; exit 3'", "ends": "true"}
    with message.open("wb") as stderr, running_emulator(folder, images=images, stderr=stderr) as emu:
        yield Terminal(emu, message, words)


def test_a_crash_loop_is_said_once_and_another_cause_again(terminal: Terminal) -> None:
    """The endpoint, its worker, the exit status, the last lines and the log; numbers make no new cause."""
    terminal.words.write_text("a\nb\nc\nd\ne\nf\n\n12:00:00 no module named nope\n")
    endpoint_id = endpoint(terminal.emu, name="broken", image="words")
    terminal.queue(endpoint_id)
    first = terminal.until_said("'broken'")
    worker = terminal.worker(endpoint_id)
    log = terminal.emu.root / "logs" / f"{worker}.log"
    terminal.words.write_text("12:00:07 no module named nope\n")
    until(lambda: log.is_file() and "12:00:07" in log.read_text())
    terminal.words.write_text("another mistake\n")
    terminal.until_said("another mistake")

    assert first == (
        f"emulator: worker {worker} of endpoint 'broken' ({endpoint_id}) ended with exit status 3 "
        f"before it asked for a job. Its log is {log} and ends so:"
    )
    start = terminal.lines().index(first)
    shown = ["d", "e", "f", "12:00:00 no module named nope"]
    assert terminal.lines()[start + 1 : start + 5] == [f"    {line}" for line in shown]
    assert [line for line in terminal.lines() if "12:00:07" in line] == []


def test_a_program_that_ends_without_a_word(terminal: Terminal) -> None:
    """To end well is a failure too, for a worker that nobody has given a job."""
    endpoint_id = endpoint(terminal.emu, name="ends", image="ends")
    terminal.queue(endpoint_id)

    message = terminal.until_said("'ends'")
    terminal.emu.rest("DELETE", f"/serverless/{endpoint_id}")

    assert message.endswith("ended with exit status 0 before it asked for a job, and wrote nothing.")


def test_an_image_that_nothing_stands_for(terminal: Terminal) -> None:
    """The option that names its command is said."""
    endpoint_id = endpoint(terminal.emu, name="typo", image="you/wroker:1")
    terminal.queue(endpoint_id)

    assert terminal.until_said("'typo'") == (
        f"emulator: endpoint 'typo' ({endpoint_id}) gets no worker: "
        "nothing stands for its image you/wroker:1. Start the emulator with --image you/wroker:1=COMMAND."
    )


def test_a_result_that_never_arrived(terminal: Terminal) -> None:
    """A worker that asks for a job as one without any, and never reported the one that it has, lost it."""
    endpoint_id = str(terminal.emu.rest("POST", "/serverless", ENDPOINT | {"name": "loses"}).json()["id"])
    job_id = queue_job(terminal.emu, endpoint_id)
    worker = next(w for w in terminal.emu.state()["workers"] if w["endpointId"] == endpoint_id)
    take = f"{terminal.emu.url('jobs')}/{endpoint_id}/job-take/{worker['id']}?gpu=CPU&job_in_progress="
    key = {"Authorization": worker["key"]}
    terminal.emu.set(job_take_hold_s=0.1)

    assert httpx.get(f"{take}0", headers=key).json()["id"] == job_id
    httpx.get(f"{take}1", headers=key)
    assert [line for line in terminal.lines() if "'loses'" in line and "lost" in line] == []
    httpx.get(f"{take}0", headers=key)

    message = terminal.until_said("asks for another job")
    assert f"has not reported {job_id}: the result is lost." in message


def test_a_worker_that_dies_over_a_job(terminal: Terminal) -> None:
    """The job is named, once for both of its tries; a worker that is ended with its endpoint is no news."""
    endpoint_id = endpoint(terminal.emu, name="mortal")
    job = run(terminal.emu, endpoint_id, do="die")
    message = terminal.until_said("'mortal'")
    terminal.emu.rest("DELETE", f"/serverless/{endpoint_id}")
    until(lambda: all(w["endpointId"] != endpoint_id for w in terminal.emu.state()["workers"]))

    assert f"while it had job {job['id']}." in message
    assert len([line for line in terminal.lines() if "'mortal'" in line]) == 1
