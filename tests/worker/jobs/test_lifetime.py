"""A worker's bad days: jobs that fail or are cancelled, a ComfyUI that dies, a shutdown in the middle."""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadlines import HANG_S
from tests.support.dripping_server import HEADS, serving_slowly
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio, until

pytestmark = pytest.mark.slow
PIXEL = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
).decode()


def slow(steps: int, delay_s: float) -> dict[str, Any]:
    """A workflow that takes its time."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {
            "class_type": "EmulatorSlow",
            "inputs": {"image": ["1", 0], "steps": steps, "delay": delay_s, "preview": False},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "slow"}},
    }


def comfyui_of(pid: int) -> int | None:
    """Return the process id of a worker's ComfyUI."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat[1]) == pid and stat[0] != "Z" and b"--extra-model-paths-config" in command:
            return int(entry.name)
    return None


def running(studio: Studio, job_id: str) -> bool:
    """Tell whether ComfyUI works on a job, as the job's progress says."""
    job = studio.status(job_id)
    assert job["status"] in {"IN_QUEUE", "IN_PROGRESS"}, job
    return isinstance(job.get("output"), dict) and job["output"].get("state") == "running"


@pytest.fixture
def studio(emu: Emulator) -> Studio:
    return Studio(emu, "comfyform/worker")


def test_a_foreign_client_is_served_and_mistakes_are_named(studio: Studio) -> None:
    """worker-comfyui's input gets its answer; a failing node, a wrong name, a missing file a sentence."""
    load = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}},
    }
    oom = {"2": {"class_type": "EmulatorRaise", "inputs": {"image": ["1", 0], "kind": "oom"}}}
    foreign = studio.output(workflow=load, images=[{"name": "a.png", "image": PIXEL}])
    again = studio.output(workflow=load, images=[{"name": "a.png", "image": PIXEL}])
    raised = studio.error(action="workflow", workflow=slow(1, 0.0) | oom)
    climbing = studio.error(action="lipsync", portrait_image="avatars/odin.png", audio="../../etc/passwd")
    missing = studio.error(action="lipsync", portrait_image="avatars/odin.png", audio="voices/a.wav")

    assert [image["type"] for image in foreign["images"]] == ["base64"]
    # ComfyUI answers this one from its cache, with the name of a file that was cleaned up.
    assert [image["type"] for image in again["images"]] == ["base64"]
    assert raised.startswith("node 2 (EmulatorRaise) failed: OutOfMemoryError")
    assert climbing.startswith("audio '../../etc/passwd' is refused")
    assert missing.startswith(
        "lipsync: portrait_image 'avatars/odin.png' and audio 'voices/a.wav' are not there."
    )


def test_a_cancelled_job_frees_comfyui_for_the_next(studio: Studio) -> None:
    """The run of a minute is interrupted at its next step; the worker takes another job."""
    job_id = studio.submit(action="workflow", workflow=slow(600, 0.1))
    until(lambda: running(studio, job_id))
    studio.cancel(job_id)

    assert "files" in studio.output(action="workflow", workflow=slow(1, 0.0))


def test_a_comfyui_that_dies_is_named_and_comes_back(studio: Studio) -> None:
    """Killed as by the kernel: the job says so with the end of the log, the next one finds a new ComfyUI."""
    job_id = studio.submit(action="workflow", workflow=slow(600, 0.1))
    until(lambda: running(studio, job_id))
    comfyui = comfyui_of(studio.worker_pid())
    assert comfyui is not None
    os.kill(comfyui, signal.SIGKILL)
    job = studio.wait(job_id)

    assert job["status"] == "FAILED"
    assert job["error"].startswith("ComfyUI died during the run: it was killed (signal 9)")
    assert "Its last lines: " in job["error"]
    assert "files" in studio.output(action="workflow", workflow=slow(2, 0.0))


def test_a_worker_that_is_stopped_finishes_its_job(emu: Emulator, studio: Studio) -> None:
    """SIGTERM drains: the job at hand ends well, then ComfyUI is gone too."""
    emu.set(job_take_hold_s=1.0)  # the SDK lets its open polls end by themselves
    job_id = studio.submit(action="workflow", workflow=slow(10, 0.1))
    until(lambda: running(studio, job_id))
    pid = studio.worker_pid()
    comfyui = comfyui_of(pid)
    os.kill(pid, signal.SIGTERM)

    assert studio.wait(job_id)["status"] == "COMPLETED"
    until(lambda: not Path(f"/proc/{comfyui}").exists())


WARM_UP_FIRST = """
import threading

class Thread(threading.Thread):
    def start(self):
        super().start()
        if self.name == "warm-up":
            self.join()

threading.Thread = Thread
"""


def test_a_warm_up_runs_before_the_first_job(emu: Emulator, tmp_path: Path) -> None:
    """The models of the usual workflow are in memory when somebody waits for them, and the log says so.

    Also where it is done before the SDK is loaded, as on a busy machine: here the worker waits for it.
    """
    (tmp_path / "warm.json").write_text(json.dumps(slow(1, 0.0)))
    (tmp_path / "sitecustomize.py").write_text(WARM_UP_FIRST)
    studio = Studio(
        emu,
        "comfyform/worker",
        COMFYFORM_WARMUP=str(tmp_path / "warm.json"),
        PYTHONPATH=str(tmp_path),
    )
    studio.output(action="health")

    assert "warmed up with" in "".join(emu.state()["workers"][0]["log"])


@pytest.mark.parametrize("head", ["body", "head"])
def test_a_slow_address_does_not_hold_the_worker(studio: Studio, head: str) -> None:
    """A job whose input never ends is cancelled: the next one runs, on the same worker."""
    with serving_slowly(HEADS[head]) as server:
        stuck = studio.submit(
            action="lipsync",
            portrait_image="a.png",
            audio="a.wav",
            inputs=[{"name": "a.png", "url": server.url}, {"name": "a.wav", "data": PIXEL}],
        )
        assert server.reached.wait(HANG_S)
        worker = studio.worker_pid()
        studio.cancel(stuck)
        healthy = studio.output(action="workflow", workflow=slow(1, 0.0))

    assert healthy["files"]
    assert studio.worker_pid() == worker


def test_the_jobs_time_ends_a_slow_download(studio: Studio) -> None:
    """The worker answers itself, before RunPod ends the job at its time limit."""
    with serving_slowly(HEADS["body"]) as server:
        body = {
            "input": {
                "action": "workflow",
                "workflow": slow(1, 0.0),
                "inputs": [{"name": "a.png", "url": server.url}],
            },
            "policy": {"executionTimeout": 6000},
        }
        job_id = str(studio.emu.jobs("POST", f"/{studio.endpoint_id}/run", body).json()["id"])
        job = studio.wait(job_id)

    assert job["status"] == "FAILED", job
    assert "a.png could not be fetched: it took longer than the job has time" in job["error"]
