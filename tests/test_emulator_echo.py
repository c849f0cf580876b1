"""The worker protocol on one worker with the real `runpod` SDK, which all of these tests share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.echo_endpoint import endpoint, log_events, run
from tests.emulation import Emulator, until

pytestmark = pytest.mark.slow
ENV = {"MINE": "yes", "HF_TOKEN": "{{ RUNPOD_SECRET_HF_TOKEN }}", "RUNPOD_DC_ID": "no"}


@dataclass(frozen=True)
class Echo:
    """An endpoint with a volume, not reset between these tests: a worker is slow to start."""

    emu: Emulator
    endpoint_id: str
    volume_id: str

    def run(self, **wish: Any) -> dict[str, Any]:
        return run(self.emu, self.endpoint_id, **wish)

    def jobs(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return dict(self.emu.jobs(method, f"/{self.endpoint_id}{path}", body).json())


@pytest.fixture(scope="module")
def echo(emulator_process: Emulator) -> Echo:
    emulator_process.reset()
    wanted = {"name": "v", "size": 10, "dataCenter": "EU-RO-1"}
    volume_id = emulator_process.rest("POST", "/network-volumes", wanted).json()["id"]
    return Echo(emulator_process, endpoint(emulator_process, env=ENV, networkVolumes=[volume_id]), volume_id)


def test_a_job_reaches_an_unmodified_worker_and_comes_back(echo: Echo) -> None:
    """A queued job starts a worker; its output, times and worker id are in the answer."""
    job = echo.run(a=1)

    assert job["output"] == {"echo": {"a": 1}, "keys": ["id", "input"]}
    assert (job["status"], job["workerId"]) == ("COMPLETED", echo.emu.state()["workers"][0]["id"])
    assert job["delayTime"] > 0 <= job["executionTime"]


def test_a_worker_sees_its_endpoint_and_its_volume_and_nothing_of_ours(echo: Echo) -> None:
    """The environment is the endpoint's and RunPod's; secrets are filled in; the volume is a folder."""
    names = [*ENV, "RUNPOD_VOLUME_ID", "RUNPOD_ENDPOINT_ID", "HF_ENDPOINT", "PYTEST_CURRENT_TEST"]
    seen = echo.run(do="env", names=names)["output"]
    written = echo.run(do="write", path="outputs/a.txt", text="hello")["output"]["path"]

    assert seen == {
        "MINE": "yes",
        "HF_TOKEN": echo.emu.env["HF_TOKEN"],
        "RUNPOD_DC_ID": "EU-RO-1",
        "RUNPOD_VOLUME_ID": echo.volume_id,
        "RUNPOD_ENDPOINT_ID": echo.endpoint_id,
        "HF_ENDPOINT": None,
        "PYTEST_CURRENT_TEST": None,
    }
    assert written == str(echo.emu.volume_dir(echo.volume_id) / "outputs/a.txt")


def test_failures_of_the_handler_are_told_as_the_sdk_tells_them(echo: Echo) -> None:
    """A raised error comes as a JSON string with type and message, a returned one as it is."""
    raised = echo.run(do="raise", message="boom")
    returned = echo.run(do="error", message="no model")

    assert (raised["status"], '"error_message": "boom"' in raised["error"]) == ("FAILED", True)
    assert (returned["status"], returned["error"]) == ("FAILED", "no model")


def test_a_cancelled_job_stops_in_its_worker(echo: Echo) -> None:
    """The SDK is told to drop a cancelled job, and takes the next one in the same process."""
    job = echo.jobs("POST", "/run", {"input": {"do": "wait", "seconds": 60}})["id"]
    until(lambda: echo.jobs("GET", f"/status/{job}")["status"] == "IN_PROGRESS")
    pid = echo.emu.state()["workers"][0]["pid"]
    echo.jobs("POST", f"/cancel/{job}")
    after = echo.run(a=1)

    assert after["status"] == "COMPLETED"
    assert echo.emu.state()["workers"][0]["pid"] == pid


def test_progress_reaches_the_status(echo: Echo) -> None:
    """progress_update shows in /status while the job runs, and never after it has ended."""
    job = echo.jobs("POST", "/run", {"input": {"do": "progress", "steps": 20}})["id"]
    seen = until(lambda: echo.jobs("GET", f"/status/{job}").get("output"))
    done = echo.jobs("GET", f"/status-sync/{job}?wait=20000")

    assert "step" in seen
    assert (done["status"], done["output"]) == ("COMPLETED", {"steps": 20})


def test_a_log_resumes(echo: Echo) -> None:
    """Last-Event-ID goes on behind that event."""
    worker = echo.run(a=1)["workerId"]
    path = f"/serverless/{echo.endpoint_id}/workers/{worker}/logs?tail=5000"
    events = log_events(echo.emu, path)
    (first, _), (_, second) = next(events), next(events)
    events.close()
    again = log_events(echo.emu, path, **{"Last-Event-ID": first})

    assert next(again)[1]["line"] == second["line"]
