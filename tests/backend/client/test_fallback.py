"""Several backends as one, on emulated services: who serves, what is left of the time, nothing paid twice."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import (
    AsyncBackend,
    Backend,
    GenerationResult,
    Health,
    InvalidArgument,
    NotFound,
    NotSupported,
    Request,
    Secret,
    Settings,
    Unavailable,
    get_backend,
)
from backend.client.fallback import FallbackBackend
from backend.flow import Flow, Work
from backend.flow.http_driver import Http
from backend.jobs.journal import Journal
from backend.runpod.backend import RunPodBackend
from backend.runpod.job_api import JobPlane
from tests.support.comfyui_program import slow
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.small_server import Answer, serving


@pytest.fixture
def chain(emu: Emulator, tmp_path: Path) -> Iterator[Backend]:
    """Comfy's cloud first, then Hedra."""
    emu.set(hedra_rate_per_minute=100_000, hedra_job_s=0.01)
    env = emu.env | {"COMFYFORM_STATE_DIR": str(tmp_path / "state"), "HEDRA_POLL_S": "0.02"}
    with get_backend(
        "cloud,hedra", settings=Settings.from_env(env | {"COMFYFORM_TIMEOUT_S": "20"})
    ) as backend:
        yield backend


@pytest.mark.slow
def test_the_first_serves_while_it_is_healthy_and_the_next_when_it_is_not(emu, chain):
    """The result says which one did."""
    first = chain.workflow(slow()).raise_for_failure()
    emu.fault("/comfy-api/*", method="GET", times=0, status=401, body={})
    second = chain.imagine(description="a fox").raise_for_failure()

    assert (first.backend, second.backend) == ("cloud", "hedra")


def test_one_that_cannot_do_it_is_passed_over(chain):
    """The cloud keeps no avatars and Hedra neither: that is no failure of the run."""
    with pytest.raises(
        NotSupported, match=r"cloud: The cloud backend cannot.*; hedra: Hedra does not support"
    ):
        chain.portrait(prompt="odin", save_to_avatars=True)


def test_one_job_is_not_submitted_where_it_would_be_two(emu, chain, tmp_path):
    """The chain says of its last backend what that says itself, before anything is submitted."""
    emu.fault("/comfy-api/*", method="GET", times=0, status=401, body={})
    inputs = {"text": "Hail.", "voice_reference": "Aria", "portrait_image": tmp_path / "odin.png"}
    (tmp_path / "odin.png").write_bytes(b"a face")

    with pytest.raises(Unavailable, match="hedra: At the hedra backend talk is two jobs: submit tts, then"):
        chain.submit("talk", **inputs)

    assert emu.requests("POST", "/hedra/*") == []


def test_a_job_that_is_paid_for_is_not_given_to_the_next(emu, chain, tmp_path):
    """Its result cannot be fetched now, and can be later."""
    emu.fault("/comfy-api/*/content", method="GET", times=0, cut="before")

    result = chain.workflow(slow(), output_path=tmp_path / "x.png")

    assert isinstance(result.exception, Unavailable)
    assert emu.requests("POST", "/hedra/*") == []


Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, chain: Backend) -> Call:
    """Call something of the chain, through a face."""

    def sync(name: str, *args: Any, **params: Any) -> Any:
        return getattr(chain, name)(*args, **params)

    def awaited(name: str, *args: Any, **params: Any) -> Any:
        async def main() -> Any:
            async with AsyncBackend(chain.flows, deadline_s=HANG_S) as backend:
                return await getattr(backend, name)(*args, **params)

        return asyncio.run(main())

    return sync if request.param == "sync" else awaited


def test_a_job_is_submitted_to_the_first_that_is_healthy_and_found_by_its_id(emu, call, tmp_path):
    """Each of two jobs is where it was submitted, whoever is healthy when it is asked for."""
    first = call("submit", "workflow", graph=slow()).id
    emu.fault("/comfy-api/*", method="GET", times=1, status=401, body={})
    second = call("submit", "imagine", description="a fox", output_path=tmp_path / "b.png").id

    results = [call("resume", first, output_path=tmp_path / "a.png"), call("resume", second)]

    assert [result.raise_for_failure().backend for result in results] == ["cloud", "hedra"]
    assert [call("status", job).state for job in (first, second)] == ["COMPLETED", "COMPLETED"]
    assert [(tmp_path / name).is_file() for name in ("a.png", "b.png")] == [True, True]


def test_a_job_of_another_machine_is_found_by_asking(chain, tmp_path):
    """Its id is all that is known; nothing here wrote it down."""
    job = chain.submit("workflow", graph=slow())
    shutil.rmtree(tmp_path / "state" / "jobs")

    assert chain.resume(job.id, output_path=tmp_path / "a.png").raise_for_failure().backend == "cloud"
    with pytest.raises(NotFound, match=r"Job nope not found: cloud: .*; hedra: "):
        chain.status("nope")


def test_a_job_of_the_chain_is_cancelled_where_it_runs(call):
    """And one that nobody knows is no error."""
    job = call("submit", "workflow", graph=slow(1000, 0.05)).id

    assert (call("cancel", job), call("cancel", "nope")) == (True, False)
    assert call("resume", job).error == f"Job {job} was cancelled."


JOB = b'{"id": "j1", "status": "COMPLETED", "output": {"files": [%s]}}'
ENTRY = b'{"type": "image", "filename": "a.png", "size_bytes": 3, %s}'
WAYS = {
    "a bucket that cannot be reached": b'"url": "http://127.0.0.1:9/a.png"',
    "a volume without keys": b'"volume_path": "outputs/a.png"',
    "broken bytes": b'"data": "!!!"',
}


@pytest.mark.parametrize("way", WAYS)
def test_a_runpod_job_that_is_done_is_never_paid_for_twice(way, tmp_path):
    """Its files cannot be had now: the error names the job and how to get them, and nobody else is asked."""
    other = Slow("other", [0.0], able=True)

    with serving(lambda _: Answer(body=JOB % (ENTRY % WAYS[way]))) as runpod:
        plane = JobPlane(runpod.url, Secret("rpa_1"))
        flows = RunPodBackend(plane, "ep", journal=Journal(tmp_path / "jobs"))
        with Backend(FallbackBackend([flows, other])) as backend:
            backend._http = Http(wait=lambda _: None)
            result = backend.portrait(prompt="x", output_path=tmp_path / "a.png")

    (entry,) = flows.journal.entries()
    assert (result.success, result.backend, result.job_id, other.given) == (False, "runpod", "j1", [])
    assert "`inv jobs.wait j1 --output-path …` fetches its result without paying again" in str(result.error)
    assert (entry.state, entry.job_id) == ("COMPLETED", "j1")


@pytest.mark.parametrize("blocked", ["a file where a folder should be", "a full disk"])
def test_a_place_where_nothing_can_be_put_is_refused_before_anything_is_sent(blocked, tmp_path, monkeypatch):
    """For a verb, for a job that is submitted, for one that is resumed: nobody listens at the address."""
    (tmp_path / "file").write_text("x")
    if blocked == "a full disk":
        monkeypatch.setattr("backend.files.output_paths.ROOM_BYTES", 1 << 62)
    place = tmp_path / ("new" if blocked == "a full disk" else "file") / "deep" / "a.png"

    with get_backend("local", settings=Settings(comfyui_url="http://127.0.0.1:9")) as client:
        for call in (
            lambda: client.portrait(prompt="x", output_path=place),
            lambda: client.submit("portrait", prompt="x", output_path=place),
            lambda: client.resume("some-job", output_path=place),
        ):
            with pytest.raises(InvalidArgument, match=r"output_path .*Choose another place"):
                call()


class Slow:
    """A backend that takes its time to say that it cannot."""

    def __init__(self, name: str, clock: list[float], *, able: bool) -> None:
        self.name = name
        self.given: list[float] = []
        self._clock = clock
        self._able = able

    def health_check(self) -> Flow[Health]:
        yield Work(lambda: None)
        self._clock[0] += 2.0
        return Health(backend=self.name, healthy=True)

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        yield Work(lambda: None)
        self.given.append(deadline_s)
        self._clock[0] += 3.0
        if not self._able:
            raise NotSupported("not here")
        return GenerationResult(success=True, backend=self.name)


def test_one_deadline_is_for_all_of_them():
    """Each has what the ones before have left."""
    now = [0.0]
    first, second = Slow("first", now, able=False), Slow("second", now, able=True)

    with Backend(FallbackBackend([first, second], clock=lambda: now[0]), deadline_s=10.0) as backend:
        result = backend.portrait(prompt="x")

    assert (result.backend, first.given, second.given) == ("second", [8.0], [3.0])
