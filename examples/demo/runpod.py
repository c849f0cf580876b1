"""Starts a RunPod on loopback for the demo, and ends it."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from backend.errors import ComfyformError

START_S = 30.0


@dataclass(frozen=True, slots=True)
class LocalRunPod:
    """A running emulator.

    Attributes:
        process: its process, in a session of its own.
        environment: the variables that point every client at it.
        folder: where its volumes and logs are.
    """

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    folder: Path

    def volume(self, volume_id: str) -> Path:
        """Return the folder that stands for a network volume."""
        return self.folder / "volumes" / volume_id

    @property
    def comfyui_models(self) -> Path:
        """The models folder of the stand-in ComfyUI."""
        return self.folder / "comfyui" / "models"

    def stop(self) -> None:
        """End it and its workers, and wait until they are gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def images() -> dict[str, str]:
    """Return the command that stands for each container image: the program that the Dockerfiles start."""
    python = shlex.quote(sys.executable)
    stand_in = shlex.quote(f"{python} -m emulator.comfyui")
    return {
        "comfyform/ops": f"{python} -m worker",
        "comfyform/worker": f"env COMFYUI_COMMAND={stand_in} {python} -m worker",
    }


def start(folder: Path) -> LocalRunPod:
    """Start an emulator whose state is in ``folder``.

    Raises:
        ComfyformError: it ended before it served.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / "environment"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "emulator", "--state", str(folder), "--env-file", str(ready)]
    for name, program in images().items():
        command += ["--image", f"{name}={program}"]
    log = folder / "emulator.log"
    with log.open("wb") as sink:
        # A session of its own: Ctrl-C reaches us first, so that we can end it after what depends on it.
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=sink,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    threading.Thread(target=_pass_on, args=(log, process), daemon=True).start()
    deadline = time.monotonic() + START_S
    try:
        while not ready.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(0.02)
                raise ComfyformError(f"The emulator ended with {code} before it served.", hint=f"See {log}.")
            if time.monotonic() > deadline:
                raise ComfyformError(
                    f"The emulator did not serve within {START_S:.0f} s.", hint=f"See {log}."
                )
    except BaseException:
        process.kill()
        process.wait()
        raise
    pairs = (line.partition("=") for line in ready.read_text(encoding="utf-8").splitlines() if "=" in line)
    return LocalRunPod(process, {name: value for name, _, value in pairs}, folder)


def _pass_on(log: Path, process: subprocess.Popen[bytes]) -> None:
    """Show what the emulator complains of, while it lives: a worker that cannot start, for example."""
    with log.open(encoding="utf-8", errors="replace") as lines, contextlib.suppress(OSError):
        ended = False
        while not ended:
            ended = process.poll() is not None  # asked first, so that its last words are read after its end
            for line in lines:
                print(line, end="", file=sys.stderr, flush=True)
            time.sleep(0.2)


def clean_environment() -> dict[str, str]:
    """Return this process's variables without those that would point at somebody's real account."""
    foreign = ("RUNPOD_", "COMFY", "HF_", "CIVITAI_", "HEDRA_", "PULUMI_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
