"""The emulator as tests use it: a process of its own, and a small client of its control plane."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx

from tests.support.deadlines import HANG_S

PYTHON = sys.executable
TESTS = Path(__file__).parent
IMAGES = {
    "comfyform/ops": f"'{PYTHON}' -m worker",
    "comfyform/worker": f"env COMFYUI_COMMAND=\"'{PYTHON}' -m emulator.comfyui\" '{PYTHON}' -m worker",
    "crash": f"'{PYTHON}' -c 'raise SystemExit(\"no GPU here\")'",
    "echo": f"'{PYTHON}' '{TESTS / 'echo_worker.py'}'",
}


class Emulator:
    """One running emulator.

    Attributes:
        env: the environment that points clients at it (`RUNPOD_API_KEY`, `RUNPOD_REST_URL`, …).
        process: its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], env: dict[str, str], root: Path) -> None:
        self.process = process
        self.env = env
        self.root = root
        self._http = httpx.Client(timeout=HANG_S, trust_env=False)

    def url(self, plane: str) -> str:
        """Return the address of a plane: "rest", "jobs", "s3", "hub", "civitai", "comfyui" or "control"."""
        names = {"rest": "RUNPOD_REST_URL", "jobs": "RUNPOD_JOBS_URL", "s3": "RUNPOD_S3_URL"}
        names |= {"hub": "HF_ENDPOINT", "civitai": "CIVITAI_URL", "comfyui": "COMFYUI_URL"}
        names |= {"control": "EMULATOR_CONTROL_URL"}
        return self.env[names[plane]]

    def rest(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask the control plane, REST v2, with the right key."""
        return self._ask("rest", method, path, body)

    def jobs(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask the job plane with the right key."""
        return self._ask("jobs", method, path, body)

    def _ask(self, plane: str, method: str, path: str, body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.env['RUNPOD_API_KEY']}"}
        return self._http.request(method, self.url(plane) + path, json=body, headers=headers)

    def control(self, method: str, path: str, body: Any = None, /, **query: str) -> Any:
        """Ask the emulator's own plane, and return the parsed answer; a refusal fails the test."""
        reply = self._http.request(method, self.url("control") + path, json=body, params=query)
        assert reply.is_success, reply.text
        return reply.json() if reply.content else None

    def fault(
        self, path: str, *, method: str | None = None, skip: int = 0, times: int = 1, **what: Any
    ) -> dict[str, Any]:
        """Make something go wrong on requests whose whole path matches the glob `path`.

        Args:
            path: such as `/jobs/v2/*/run`; `*` crosses slashes.
            method: only this one.
            skip: let so many pass first.
            times: how many are hit; 0 for all.
            what: `status`, `body`, `headers`, `delay_s`, `cut` ("before", "after" or bytes), `corrupt`,
                `truncate`, `die`, as `emulator.control.faults.Fault` describes them.
        """
        match = {"path": path, "method": method, "skip": skip}
        answer: dict[str, Any] = self.control("POST", "/faults", {"match": match, "times": times, **what})
        return answer

    def requests(self, method: str | None = None, path: str | None = None) -> list[dict[str, Any]]:
        """Return the requests so far, oldest first, by method and by a glob over the path."""
        query = {name: value for name, value in {"method": method, "path": path}.items() if value}
        found: list[dict[str, Any]] = self.control("GET", "/requests", **query)["requests"]
        return found

    def state(self) -> dict[str, Any]:
        """Return everything that the emulator knows: resources, jobs, workers with pid and log tail."""
        state: dict[str, Any] = self.control("GET", "/state")
        return state

    def submitted(self) -> dict[str, Any]:
        """Return the input of every job that was taken, by the job's id: what was paid for."""
        bodies = [json.loads(path.read_text()) for path in (self.root / "jobs").glob("*.json")]
        return {body["id"]: body["body"]["input"] for body in bodies}

    def volume_dir(self, volume_id: str) -> Path:
        """Return the folder of a network volume."""
        return self.root / "volumes" / volume_id

    def set(self, **knobs: Any) -> None:
        """Turn knobs; their names are the fields of `emulator.control.limits.Limits`."""
        self.control("PATCH", "/knobs", knobs)

    def advance(self, seconds: float) -> None:
        """Let time pass for the emulator at once."""
        self.control("POST", "/clock", {"advance_s": seconds})

    def reset(self) -> None:
        """Forget everything but the keys, and end all workers."""
        self.control("POST", "/reset")

    def unhit_faults(self) -> list[dict[str, Any]]:
        """Return the faults that never happened."""
        return [fault for fault in self.control("GET", "/faults")["faults"] if not fault["hits"]]

    def close(self) -> None:
        """Close the client, not the process."""
        self._http.close()


@contextlib.contextmanager
def running_emulator(
    root: Path, *, port: int = 0, images: dict[str, str] | None = None, stderr: IO[bytes] | None = None
) -> Iterator[Emulator]:
    """Run an emulator on the folder `root` and end it afterwards, in whatever state it is."""
    env_file = root / "environment"
    env_file.unlink(missing_ok=True)
    command = [
        PYTHON,
        "-m",
        "emulator",
        "--state",
        str(root),
        "--port",
        str(port),
        "--env-file",
        str(env_file),
    ]
    for name, image in (IMAGES if images is None else images).items():
        command += ["--image", f"{name}={image}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
    assert process.stdout is not None
    try:
        # The emulator says its environment once it serves; the last line is the sign.
        for line in process.stdout:
            if line.startswith(b"EMULATOR_CONTROL_URL="):
                break
        else:
            raise RuntimeError(f"the emulator ended with {process.wait()} before it served")
        env = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
        emulator = Emulator(process, env, root)
        try:
            yield emulator
        finally:
            emulator.close()
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def until(condition: Callable[[], Any], seconds: float = HANG_S) -> Any:
    """Ask again and again until the answer is truthy, and return it; processes tell nobody when they end."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it never came"
        pause.wait(0.02)
    return answer


def alive(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
