"""A ComfyUI that the conformance run starts from a folder, on the CPU, and may kill."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backend.comfyui.api import ComfyUI
from backend.errors import ComfyformError, Unavailable
from backend.flow.http_driver import Http
from backend.validation.printable import plain

START_S: Final = 300.0
POLL_S: Final = 0.5
TINY_CHECKPOINT: Final = Path(__file__).with_name("tiny_checkpoint.py")
"""A program for ComfyUI's own Python: it needs torch."""
MODEL_FOLDERS: Final = ("checkpoints", "loras", "sonic")


@dataclass(slots=True)
class Server:
    """One ComfyUI process after another, on the same port and folders.

    Attributes:
        comfyui: ComfyUI's folder, with its ``main.py``.
        python: the Python that has its packages.
        folder: for its inputs, outputs, models and log.
        more: further arguments for ``main.py``.
    """

    comfyui: Path
    python: str
    folder: Path
    more: Sequence[str] = ()
    url: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            Unavailable: it ended, or did not answer in time; the message quotes the end of its log.
        """
        if not self.url:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        log = self.folder / "comfyui.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self.python, "main.py", *self._arguments()],
                cwd=self.comfyui,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        end = time.monotonic() + START_S
        pause = threading.Event()
        with Http() as http:
            while True:
                try:
                    http.run(ComfyUI(self.url).system_stats())
                except ComfyformError:
                    if self._process.poll() is not None or time.monotonic() > end:
                        raise Unavailable(
                            f"ComfyUI at {self.comfyui} did not start. Its last lines: {_end_of(log)}"
                        ) from None
                    pause.wait(POLL_S)
                else:
                    return

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """End it if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _arguments(self) -> list[str]:
        folders = {name: self.folder / name for name in ("input", "output", "temp", "user", "models")}
        for path in folders.values():
            path.mkdir(parents=True, exist_ok=True)
        paths = self.folder / "extra_model_paths.yaml"
        lines = [f"  {name}: {folders['models'] / name}" for name in MODEL_FOLDERS]
        paths.write_text("\n".join(["conformance:", *lines, ""]), encoding="utf-8")
        return [
            "--cpu",
            "--disable-auto-launch",
            *("--listen", "127.0.0.1", "--port", self.url.rpartition(":")[2]),
            *("--extra-model-paths-config", str(paths)),
            *("--input-directory", str(folders["input"]), "--output-directory", str(folders["output"])),
            *("--temp-directory", str(folders["temp"]), "--user-directory", str(folders["user"])),
            *("--database-url", f"sqlite:///{folders['user'] / 'comfyui.db'}"),
            *self.more,
        ]


def _end_of(log: Path) -> str:
    """Quote the end of a log, without colors."""
    return " ".join(plain(log.read_text("utf-8", "replace"))[-600:].split())


@contextmanager
def started(comfyui: Path, python: str, folder: Path, more: Sequence[str] = ()) -> Iterator[Server]:
    """Run a ComfyUI with a checkpoint and a LoRA of random weights, and end it afterwards.

    Raises:
        Unavailable: the models could not be written, or it does not start.
    """
    models = folder / "models"
    command = [python, str(TINY_CHECKPOINT), str(comfyui), str(models)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"The random checkpoint could not be written: {done.stderr.strip()[-500:]}")
    server = Server(comfyui, python, folder, more)
    try:
        server.start()
        yield server
    finally:
        server.stop()
