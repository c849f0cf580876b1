"""An endpoint on one of our images, as tests use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.support.emulation import Emulator


class Studio:
    """An endpoint on one of our images, with a volume."""

    def __init__(
        self, emu: Emulator, image: str, *, args: str = "", volume_id: str | None = None, **env: str
    ) -> None:
        volume = {"name": "models", "size": 10, "dataCenter": "EU-RO-1"}
        self.emu = emu
        self.volume_id = volume_id or str(emu.rest("POST", "/network-volumes", volume).json()["id"])
        self.volume = emu.volume_dir(self.volume_id)
        addresses = {name: emu.env[name] for name in ("HF_ENDPOINT", "CIVITAI_URL", "COMFYFORM_ALLOW_HOSTS")}
        hardware: dict[str, Any] = {"cpu": [{"id": "cpu3c", "vcpuCount": 2}]}
        if image == "comfyform/worker":
            hardware = {"gpu": {"pools": ["ADA_24"], "count": 1}}
        reply = emu.rest(
            "POST",
            "/serverless",
            {
                "name": "studio",
                "type": "QUEUE",
                "image": image,
                "args": args,
                "networkVolumes": [self.volume_id],
                "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
                "workers": {"min": 0, "max": 1, "idleTimeout": 60},
                "env": addresses | env,
                **hardware,
            },
        )
        assert reply.status_code == 201, reply.text
        self.endpoint_id = str(reply.json()["id"])

    def run(self, **job_input: Any) -> dict[str, Any]:
        """Run a job to its end and return RunPod's answer."""
        reply = self.emu.jobs("POST", f"/{self.endpoint_id}/runsync?wait=60000", {"input": job_input})
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def output(self, **job_input: Any) -> dict[str, Any]:
        """Run a job that must end well and return its output."""
        job = self.run(**job_input)
        assert job["status"] == "COMPLETED", job.get("error")
        return dict(job["output"])

    def error(self, **job_input: Any) -> str:
        """Run a job that must fail and return its error."""
        job = self.run(**job_input)
        assert job["status"] == "FAILED", job
        return str(job["error"])

    def submit(self, **job_input: Any) -> str:
        """Put a job into the queue and return its id."""
        return str(self.emu.jobs("POST", f"/{self.endpoint_id}/run", {"input": job_input}).json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        """Ask how a job is."""
        return dict(self.emu.jobs("GET", f"/{self.endpoint_id}/status/{job_id}").json())

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        assert self.emu.jobs("POST", f"/{self.endpoint_id}/cancel/{job_id}").status_code == 200

    def wait(self, job_id: str, seconds: float = 120) -> dict[str, Any]:
        """Wait for a job's end and return RunPod's answer."""
        ended = until(
            lambda: (job := self.status(job_id))["status"] not in {"IN_QUEUE", "IN_PROGRESS"} and job, seconds
        )
        return dict(ended)

    def worker_pid(self) -> int:
        """Return the process id of the one worker."""
        (worker,) = self.emu.state()["workers"]
        return int(worker["pid"])


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Ask again and again until the answer is truthy, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it never came"
    return answer
