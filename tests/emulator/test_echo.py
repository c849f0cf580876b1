"""The worker protocol on one worker with the real `runpod` SDK, which all of these tests share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.deadlines import HANG_S
from tests.support.echo_endpoint import endpoint, log_events, run
from tests.support.emulation import Emulator, until

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
    required = {"name": "v", "size": 10, "dataCenter": "EU-RO-1"}
    volume_id = emulator_process.rest("POST", "/network-volumes", required).json()["id"]
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


def test_a_log_has_both_sources_and_goes_on_from_a_time(echo: Echo) -> None:
    """Without `source` both logs come in the order of their times; `since` and the event's id resume."""
    worker = echo.run(a=1)["workerId"]
    path = f"/serverless/{echo.endpoint_id}/workers/{worker}/logs"
    events = log_events(echo.emu, f"{path}?tail=5000")
    found = [next(events) for _ in range(4)]
    events.close()
    times = [data["ts"] for _, data in found]

    assert {data["source"] for _, data in found} == {"system", "container"}
    assert found[0][1]["line"] == "create container echo"
    assert [number for number, _ in found] == times == sorted(set(times))
    since = log_events(echo.emu, f"{path}?since={times[2]}&tail=0")
    assert next(since) == found[2]
    last = log_events(echo.emu, f"{path}?tail=1")
    assert next(last)[1]["ts"] > times[1]


def test_a_log_without_its_past(echo: Echo) -> None:
    """`tail=0` gives only what is written from now on."""
    worker = echo.run(a=1)["workerId"]
    path = f"/serverless/{echo.endpoint_id}/workers/{worker}/logs?source=container"
    known = next(log_events(echo.emu, f"{path}&tail=1"))[1]["ts"]
    key = {"Authorization": f"Bearer {echo.emu.env['RUNPOD_API_KEY']}"}
    address = f"{echo.emu.url('rest')}{path}&tail=0"

    with httpx.stream("GET", address, headers=key, timeout=HANG_S) as reply:
        echo.run(a=2)
        first = next(line for line in reply.iter_lines() if line.startswith("data: "))

    assert json.loads(first[6:])["ts"] > known


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("tail=-1", {}),
        ("tail=5001", {}),
        ("source=both", {}),
        ("since=noon", {}),
        ("", {"Last-Event-ID": "7"}),
    ],
)
def test_a_log_is_asked_for_in_the_documented_way(echo: Echo, query: str, headers: dict[str, str]) -> None:
    """A value out of range or not a time of RFC 3339 is a 422."""
    worker = echo.run(a=1)["workerId"]
    address = f"{echo.emu.url('rest')}/serverless/{echo.endpoint_id}/workers/{worker}/logs?{query}"

    key = {"Authorization": f"Bearer {echo.emu.env['RUNPOD_API_KEY']}"}
    assert httpx.get(address, headers=key | headers).status_code == 422
