"""No job that was paid for is lost: few files, a full disk, faults, and kill -9 at every step."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from backend import get_async_backend, get_backend
from backend.contract import CONTRACT
from backend.errors import VolumeFull
from backend.flow import Retry
from backend.flow.request_slots import LEAST, MOST, most_at_once
from backend.jobs.journal import Journal
from backend.runpod.backend import RunPodBackend
from backend.runpod.job_api import JobPlane
from backend.settings import Secret
from tests.backend.runpod.test_job_outputs import PNG
from tests.support.deadlines import HANG_S
from tests.support.job_plane_server import PaidJobs, json_answer, paid_jobs
from tests.support.small_server import Answer, Seen
from tests.support.worker_endpoint import Studio
from worker.handler import Handler

ROOT = Path(__file__).resolve().parents[3]


def entries(folder: Path) -> list[Any]:
    return Journal(folder / "state" / "jobs").entries()


MANY = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from pathlib import Path
from backend import get_async_backend

async def main(folder, count):
    async with get_async_backend("runpod") as backend:
        calls = (backend.portrait(prompt="x", output_path=folder / f"{n}.png") for n in range(count))
        results = await asyncio.gather(*calls, return_exceptions=True)
    good = [result for result in results if getattr(result, "success", False)]
    print(len(good), [str(getattr(result, "error", result)) for result in results if result not in good][:3])

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("by_address", [False, True], ids=["inline", "by address"])
def test_four_hundred_jobs_at_once_need_few_open_files(tmp_path, by_address):
    """With 256 open files, macOS's default: the rest of the requests waits, and every job is delivered."""
    with paid_jobs() as plane:
        plane.by_address = by_address
        done = subprocess.run(
            [sys.executable, "-c", MANY, str(tmp_path), "400"],
            env={**os.environ, **plane.env(tmp_path)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

        assert (done.stdout.strip(), done.returncode) == ("400 []", 0), done.stderr[-2000:]
        assert len(plane.jobs) == 400
        assert {entry.key for entry in entries(tmp_path)} == plane.keys()
    assert {entry.state for entry in entries(tmp_path)} == {"COMPLETED"}
    assert all((tmp_path / f"{number}.png").read_bytes() == PNG for number in range(400))


def test_the_number_of_requests_follows_the_limit_on_open_files():
    """Of this process; it is neither none nor without a bound."""
    assert LEAST <= most_at_once() <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("by_address", [False, True], ids=["inline", "by address"])
@pytest.mark.parametrize("face", ["blocking", "async"])
def test_nothing_is_imported_after_the_job_was_paid_for(tmp_path, by_address, face):
    """An import needs an open file, and may fail when it matters."""
    code = f"""
        import asyncio, os, sys
        from pathlib import Path
        from tests.support.job_plane_server import paid_jobs
        from backend import get_async_backend, get_backend
        folder, seen = Path({str(tmp_path)!r}), []

        def note(request):
            if request.path.endswith("/run"):
                seen.append(set(sys.modules))

        async def main(settings):
            async with get_async_backend("runpod", settings=settings) as backend:
                return await backend.portrait(prompt="x", output_path=folder / "a.png")

        with paid_jobs() as plane:
            plane.by_address, plane.after = {by_address}, note
            if {face!r} == "async":
                result = asyncio.run(main(plane.settings(folder)))
            else:
                with get_backend("runpod", settings=plane.settings(folder)) as backend:
                    result = backend.portrait(prompt="x", output_path=folder / "a.png")
            assert result.success, result.error
        print(sorted(set(sys.modules) - seen[0]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True
    )

    assert done.stdout.strip() == "[]", done.stdout + done.stderr[-2000:]


KILLED = """
import sys
from pathlib import Path
from backend import get_backend

with get_backend("runpod") as backend:
    backend.portrait(prompt="x", output_path=Path(sys.argv[1]) / "a.png")
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("by_address", [False, True], ids=["inline", "by address"])
def test_a_client_that_is_killed_at_any_step_loses_no_job(tmp_path, moment, by_address):
    """kill -9 at each request, before and after it takes effect; whoever comes next has the result."""
    for step in range(10):
        folder = tmp_path / str(step)
        folder.mkdir()
        seen: list[str] = []
        process: list[subprocess.Popen[bytes]] = []

        def kill(
            request: Seen, step: int = step, seen: list[str] = seen, process: Any = process
        ) -> Answer | None:
            seen.append(request.path)
            if len(seen) == step + 1:
                os.kill(process[0].pid, signal.SIGKILL)
                process[0].wait()
            return None

        with paid_jobs() as plane:
            plane.by_address = by_address
            setattr(plane, moment, kill)
            env = {**os.environ, **plane.env(folder)}
            process.append(subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], env=env, cwd=ROOT))
            code = process[0].wait()

            assert plane.keys() <= {entry.key for entry in entries(folder)}
            setattr(plane, moment, lambda _: None)
            with get_backend("runpod", settings=plane.settings(folder)) as backend:
                for entry in entries(folder):
                    if plane.jobs:
                        backend.resume(entry.key).raise_for_failure()
            assert len(plane.jobs) <= 1
            assert not plane.jobs or (folder / "a.png").read_bytes() == PNG
        if code == 0:
            break
    assert step >= 2
    assert code == 0


@pytest.mark.slow
def test_a_full_disk_costs_no_job(tmp_path):
    """The journal cannot grow: nothing more is submitted, and what was submitted is in it."""
    with paid_jobs() as plane, get_backend("runpod", settings=plane.settings(tmp_path)) as backend:
        first = backend.portrait(prompt="x", output_path=tmp_path / "a.png")
        database = backend.flows.journal._database._opened()  # type: ignore[attr-defined]
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        results = [backend.portrait(prompt="x" * 3000, output_path=tmp_path / f"{n}.png") for n in range(10)]

        assert first.success
        assert isinstance(results[-1].exception, VolumeFull)
        assert plane.keys() == {entry.key for entry in entries(tmp_path)}
        assert len(plane.jobs) == 1 + sum(result.success for result in results)


def broken(rng: random.Random) -> Answer | None:
    """Nothing, or one of the faults that a job plane has."""
    return rng.choice(
        [
            None, None, None, None,
            json_answer({"error": "no"}, 500),
            json_answer({"error": "slow down"}, 429),
            Answer(502, b"<html>Bad gateway</html>", {"content-type": "text/html"}),
            Answer(200, b'{"id": "job-', length=500),
            Answer(200, b""),
            Answer(200, b"[" * 5000),
            json_answer({"error": "job not found"}, 404),
        ]
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_job_is_delivered_or_named_whatever_goes_wrong(tmp_path, seed):
    """Faults before and after each request takes effect; each job that was taken is in the journal."""
    rng = random.Random(seed)
    faults = [0]

    def fault(request: Seen) -> Answer | None:
        reply = None if request.path.endswith("/requests") else broken(rng)
        faults[0] += reply is not None
        return reply

    async def run(plane: PaidJobs) -> list[Any]:
        job_plane = JobPlane(
            f"{plane.url}/v2", Secret("rpa_x"), retry=Retry(attempts=4, first_s=0.01, most_s=0.05)
        )
        flows = RunPodBackend(job_plane, "ep1", journal=Journal(tmp_path / "state" / "jobs"))
        from backend import AsyncBackend

        async with AsyncBackend(flows, deadline_s=HANG_S) as backend:
            calls = (backend.portrait(prompt="x", output_path=tmp_path / f"{n}.png") for n in range(120))
            return list(await asyncio.gather(*calls))

    with paid_jobs() as plane:
        plane.before = plane.after = fault
        results = asyncio.run(run(plane))
        plane.before = plane.after = lambda _: None

        written = {entry.key: entry for entry in entries(tmp_path)}
        assert plane.keys() <= written.keys()
        assert all(result.success or result.exception is not None for result in results)
        assert faults[0] > 100
        with get_backend("runpod", settings=plane.settings(tmp_path)) as backend:
            for job in plane.jobs.values():
                entry = written[job["journal_key"]]
                if entry.result is None and entry.state != "CANCELLED":
                    backend.resume(entry.key).raise_for_failure()
    keys = plane.keys()
    used = [entry for entry in entries(tmp_path) if entry.key in keys]
    assert all(Path(str(entry.output_path)).read_bytes() == PNG for entry in used)
    assert "NOT_SUBMITTED" not in {entry.state for entry in used}


@pytest.mark.slow
def test_the_emulator_counts_what_was_submitted(emu, tmp_path):
    """Sixty submissions at once with lost answers: each job that it has is in the journal, by its key."""
    emu.set(shortage=["cpu3c"])
    endpoint_id = Studio(emu, "comfyform/ops").endpoint_id
    before = set(emu.submitted())
    for cut in ("after", "before", 10, "after"):
        emu.fault(f"/jobs/v2/{endpoint_id}/run", method="POST", times=5, cut=cut)
    settings = emu.env | {"RUNPOD_ENDPOINT_ID": endpoint_id, "COMFYFORM_STATE_DIR": str(tmp_path / "state")}

    async def submit() -> list[Any]:
        from backend import Settings

        async with get_async_backend("runpod", settings=Settings.from_env(settings)) as backend:
            calls = (backend.submit("portrait", prompt="x") for _ in range(60))
            return list(await asyncio.gather(*calls, return_exceptions=True))

    asyncio.run(submit())

    jobs = {job_id: job for job_id, job in emu.submitted().items() if job_id not in before}
    written = {entry.key: entry for entry in entries(tmp_path)}
    assert len(jobs) >= 40
    assert {job["journal_key"] for job in jobs.values()} <= written.keys()
    for job_id, job in jobs.items():
        entry = written[job["journal_key"]]
        assert (entry.job_id, entry.state) in ((job_id, "IN_QUEUE"), ("", "UNKNOWN"))


def test_a_disk_that_fills_up_while_a_result_lands_is_a_typed_error(tmp_path):
    """Closing the file flushes once more and fails again; the reason is not hidden, and nothing is left."""
    code = f"""
        import resource
        from pathlib import Path
        from backend.errors import TransferError
        from backend.flow import Download
        from backend.flow.atomic_download import Landing
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        step = Download(url="", to=Path({str(tmp_path)!r}) / "out.png", what="out.png")
        for size in (4096, 19_999, 20_001):
            try:
                with Landing(step) as landing:
                    for _ in range(10):
                        landing.write(b"x" * size)
                    landing.settle()
            except TransferError as error:
                print(error.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True
    )

    assert done.stdout.count("out.png cannot be written: File too large.") == 3, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_worker_of_an_earlier_contract_names_the_remedy(tmp_path, monkeypatch):
    """An image of before refuses the job by its contract and not by an argument that no caller gave."""
    monkeypatch.setattr("worker.jobs.messages.CONTRACT", 1)

    def old_worker(request: Seen) -> Answer | None:
        job_id = request.path.partition("?")[0].rpartition("/")[2]
        if job_id not in plane.jobs:
            return None
        handler = Handler(work=lambda *_: {}, version="0.1.0", jobs_at_once=1, post_progress=None)
        answer = asyncio.run(handler.handle({"id": job_id, "input": plane.jobs[job_id]}))
        # As RunPod's SDK ends a job whose answer has an error.
        return json_answer({"id": job_id, "status": "FAILED", "error": json.dumps(answer)})

    with paid_jobs() as plane:
        plane.before = old_worker
        with get_backend("runpod", settings=plane.settings(tmp_path)) as backend:
            result = backend.portrait(prompt="x")

    assert not result.success
    assert f"The job speaks contract {CONTRACT}, and this worker understands 1. Deploy the worker" in str(
        result.error
    )
    assert "journal_key" not in str(result.error)
