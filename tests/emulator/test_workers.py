"""Workers on the real `runpod` SDK over their lives: images start, stop, die, hang and roll."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.echo_endpoint import endpoint, first_line, log_events, run
from tests.support.emulation import Emulator, alive, until

pytestmark = pytest.mark.slow


def test_a_worker_that_dies_gets_one_more_try_and_then_the_job_fails(emu: Emulator) -> None:
    """RunPod dispatches a lost job again once, then says FAILED in its own words."""
    job = run(emu, endpoint(emu), do="die")

    assert (job["status"], job["error"], job["retries"]) == ("FAILED", "job timed out after 1 retries", 1)
    assert "output" not in job


def test_a_worker_that_dies_once_costs_one_retry(emu: Emulator, tmp_path: Any) -> None:
    """The second try of a lost job may succeed."""
    job = run(emu, endpoint(emu), do="die", unless=str(tmp_path / "died"))

    assert (job["status"], job["output"], job["retries"]) == ("COMPLETED", {"survived": True}, 1)


def test_an_empty_input_is_lost_on_the_way(emu: Emulator) -> None:
    """RunPod leaves an empty input out, the SDK refuses the job silently, and it fails after a retry."""
    emu.set(worker_lost_s=0.5)
    job = run(emu, endpoint(emu))

    assert (job["status"], job["error"]) == ("FAILED", "job timed out after 1 retries")


def test_output_over_the_limit_is_a_failed_job(emu: Emulator) -> None:
    """The worker's report is refused with 400, nobody has the result, and the job fails after a retry."""
    emu.set(output_body_bytes=1000)
    endpoint_id = endpoint(emu)
    job = run(emu, endpoint_id, do="big", bytes=2000)

    assert (job["status"], job["error"]) == ("FAILED", "job timed out after 1 retries")
    assert [r["status"] for r in emu.requests("POST", "/jobs/v2/*/job-done/*")] == [400, 400]


def test_an_idle_worker_ends(emu: Emulator) -> None:
    """After idleTimeout without a job the process is gone, and the account shows no worker."""
    endpoint_id = endpoint(emu)
    run(emu, endpoint_id, a=1)
    pid = emu.state()["workers"][0]["pid"]
    emu.advance(61)
    until(lambda: not emu.state()["workers"])

    assert not alive(pid)


def test_min_workers_are_there_before_any_job_and_go_with_the_endpoint(emu: Emulator) -> None:
    """`workers.min` starts workers; deleting the endpoint ends them."""
    endpoint_id = endpoint(emu, workers={"min": 1, "max": 1})
    until(lambda: emu.rest("GET", f"/serverless/{endpoint_id}/workers").json()["summary"]["idle"])
    pid = emu.state()["workers"][0]["pid"]
    emu.rest("DELETE", f"/serverless/{endpoint_id}")
    until(lambda: not emu.state()["workers"])

    assert not alive(pid)


def test_a_new_release_replaces_the_workers(emu: Emulator) -> None:
    """A changed environment reaches the next job through a new worker; the release names what changed."""
    endpoint_id = endpoint(emu, env={"WORD": "old"})
    old = run(emu, endpoint_id, do="env", names=["WORD"])
    emu.rest("PATCH", f"/serverless/{endpoint_id}", {"env": {"WORD": "new"}})
    new = run(emu, endpoint_id, do="env", names=["WORD"])
    releases = emu.rest("GET", f"/serverless/{endpoint_id}/releases").json()

    assert (old["output"], new["output"]) == ({"WORD": "old"}, {"WORD": "new"})
    assert old["workerId"] != new["workerId"]
    assert releases["releases"][0]["diff"] == [
        {"field": "template.env", "old": {"WORD": "old"}, "new": {"WORD": "new"}}
    ]


def test_an_image_that_cannot_be_pulled_never_gets_ready(emu: Emulator) -> None:
    """Its worker stays INITIALIZING, the system log says why, and the job stays in the queue."""
    endpoint_id = endpoint(emu, image="nobody/nothing:1")
    job = emu.jobs("POST", f"/{endpoint_id}/run", {"input": {"a": 1}}).json()
    worker = until(lambda: emu.rest("GET", f"/serverless/{endpoint_id}/workers").json()["workers"])[0]
    log = first_line(emu, f"/serverless/{endpoint_id}/workers/{worker['id']}/logs?source=system")

    assert (worker["status"], worker["image"]) == ("INITIALIZING", "nobody/nothing:1")
    assert log == "error pulling image nobody/nothing:1: not found; retrying"
    assert emu.jobs("GET", f"/{endpoint_id}/status/{job['id']}").json()["status"] == "IN_QUEUE"


def test_without_a_free_machine_workers_are_throttled_until_there_is_one(emu: Emulator) -> None:
    """Capacity shortage shows as THROTTLED and in the catalog; when it ends the job runs."""
    emu.set(shortage=["cpu3c"])
    endpoint_id = endpoint(emu)
    job = emu.jobs("POST", f"/{endpoint_id}/run", {"input": {"a": 1}}).json()
    throttled = until(
        lambda: emu.rest("GET", f"/serverless/{endpoint_id}/workers").json()["summary"]["throttled"]
    )
    flavor = emu.rest("GET", "/catalog/cpus/cpu3c?include=AVAILABILITY&product=SERVERLESS").json()
    emu.set(shortage=[])
    done = emu.jobs("GET", f"/{endpoint_id}/status-sync/{job['id']}?wait=30000").json()

    assert (throttled, flavor["availability"], done["status"]) == (1, "NONE", "COMPLETED")


def test_a_worker_that_hangs_is_killed_when_its_job_has_timed_out(emu: Emulator) -> None:
    """Past its execution time-out a job is TIMED_OUT; a worker that does not let go of it is killed."""
    emu.set(worker_stuck_s=0.5)
    endpoint_id = endpoint(emu)
    wish = {"input": {"do": "sleep", "seconds": 60}, "policy": {"executionTimeout": 5000}}
    job_id = emu.jobs("POST", f"/{endpoint_id}/run", wish).json()["id"]
    path = f"/{endpoint_id}/status/{job_id}"
    until(lambda: emu.jobs("GET", path).json()["status"] == "IN_PROGRESS")
    pid = emu.state()["workers"][0]["pid"]
    emu.advance(6)
    until(lambda: not alive(pid))
    after = run(emu, endpoint_id, a=1)

    assert emu.jobs("GET", path).json()["status"] == "TIMED_OUT"
    assert after["status"] == "COMPLETED"


def test_workers_follow_the_queue_as_the_scaler_says(emu: Emulator) -> None:
    """By delay one worker comes first, by request count all that are wanted; low priority wants none."""
    count = {"type": "REQUEST_COUNT", "requestCount": 1}
    by_delay = endpoint(emu, workers={"max": 2}, image="nobody/nothing")
    by_count = endpoint(emu, workers={"max": 2}, image="nobody/nothing", scaling=count)
    by_none = endpoint(emu, workers={"max": 2}, image="nobody/nothing", scaling=count)
    for endpoint_id in (by_delay, by_count) * 3:
        emu.jobs("POST", f"/{endpoint_id}/run", {"input": {"a": 1}})
    emu.jobs("POST", f"/{by_none}/run", {"input": {"a": 1}, "policy": {"lowPriority": True}})

    def workers(endpoint_id: str) -> int:
        return int(emu.rest("GET", f"/serverless/{endpoint_id}/workers").json()["summary"]["total"])

    assert [workers(endpoint_id) for endpoint_id in (by_delay, by_count, by_none)] == [1, 2, 0]


def test_a_crash_loop_is_unhealthy(emu: Emulator) -> None:
    """A container that ends before it asks for a job is started again, ever more slowly, and UNHEALTHY."""
    endpoint_id = endpoint(emu, image="crash")
    emu.jobs("POST", f"/{endpoint_id}/run", {"input": {"a": 1}})
    workers = f"/serverless/{endpoint_id}/workers"
    until(lambda: emu.rest("GET", workers).json()["summary"]["unhealthy"])
    shown = emu.rest("GET", workers).json()["workers"][0]
    log = first_line(emu, f"{workers}/{shown['id']}/logs?source=container")

    assert shown["status"] == "UNHEALTHY"
    assert log == "no GPU here"


def test_a_log_is_followed_until_the_worker_is_gone(emu: Emulator) -> None:
    """The stream stays open, resumes behind an event's id, and ends with the worker."""
    endpoint_id = endpoint(emu)
    worker = run(emu, endpoint_id, a=1)["workerId"]
    path = f"/serverless/{endpoint_id}/workers/{worker}/logs?tail=5000&source=container"
    events = log_events(emu, path)
    _, first = next(events)
    emu.rest("DELETE", f"/serverless/{endpoint_id}")
    rest = list(events)

    assert first["source"] == "container"
    assert len(rest) > 5
    assert emu.rest("GET", path).status_code == 404


def test_a_worker_may_take_several_jobs_at_once(emu: Emulator) -> None:
    """A concurrent worker takes a batch, and its jobs run side by side in one process."""
    endpoint_id = endpoint(emu, env={"CONCURRENCY": "4"})
    wish = {"input": {"do": "wait", "seconds": 20}}
    jobs = [emu.jobs("POST", f"/{endpoint_id}/run", wish).json()["id"] for _ in range(4)]
    until(lambda: emu.jobs("GET", f"/{endpoint_id}/health").json()["jobs"]["inProgress"] == 4)
    workers = emu.state()["workers"]

    assert [worker["jobs"] for worker in workers] == [sorted(jobs)]
    assert emu.requests("GET", "/jobs/v2/*/job-take-batch/*")


def test_a_generator_streams(emu: Emulator) -> None:
    """What a handler yields is in /stream piece by piece, and whole in the job's output."""
    endpoint_id = endpoint(emu, env={"STREAM": "1"})
    job = run(emu, endpoint_id, words=["a", "b", "c"])
    stream = emu.jobs("GET", f"/{endpoint_id}/stream/{job['id']}").json()

    assert (job["status"], job["output"]) == ("COMPLETED", ["a", "b", "c"])
    assert stream == {"status": "COMPLETED", "stream": [{"output": word} for word in "abc"]}


def test_a_worker_that_asks_to_be_refreshed_is_replaced(emu: Emulator) -> None:
    """refresh_worker ends the worker after the job; the next job has a new one."""
    endpoint_id = endpoint(emu)
    first = run(emu, endpoint_id, do="refresh")
    until(lambda: not alive(first["output"]["pid"]))
    second = run(emu, endpoint_id, a=1)

    assert (first["status"], second["status"]) == ("COMPLETED", "COMPLETED")
    assert first["workerId"] != second["workerId"]
