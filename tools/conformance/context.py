"""What the checks of the conformance run work with."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend import Backend, GenerationResult
from backend.comfyui.api import ComfyUI
from backend.comfyui.refusals import combo_options
from backend.flow.http_driver import Http
from tools.conformance import graphs
from tools.conformance.server import Server

LONG_STEPS: Final = 5000
WAIT_S: Final = 120.0


class Skipped(Exception):
    """A check does not apply to this ComfyUI; the message says why."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the checks work with.

    Attributes:
        backend: the local backend on this ComfyUI.
        comfyui, http: for what the backend does not do.
        definitions: the answer of ``/object_info``.
        folder: for files of the run.
        server: the process, where the run started it.
        mutated: how many changed graphs are compared.
    """

    backend: Backend
    comfyui: ComfyUI
    http: Http
    definitions: Mapping[str, Any]
    folder: Path
    server: Server | None
    mutated: int

    def choices(self, class_type: str, name: str) -> list[str]:
        """List what an input takes; [] where the node does not exist."""
        sections = (self.definitions.get(class_type) or {}).get("input") or {}
        spec = (sections.get("required") or {}).get(name) or []
        return [str(option) for option in combo_options(spec) or ()]

    @property
    def checkpoint(self) -> str:
        """A checkpoint that makes pictures."""
        names = self.choices("CheckpointLoaderSimple", "ckpt_name")
        own = [name for name in names if "conformance" in name]
        names = own or [
            name for name in names if "svd" not in name and not name.startswith(("video/", "F5-TTS/"))
        ]
        if not names:
            raise Skipped("it has no checkpoint")
        return names[0]

    def long_run(self) -> graphs.Graph:
        """Make a workflow that does not end by itself while a check lasts."""
        return graphs.picture(self.checkpoint, steps=LONG_STEPS, seed=time.time_ns() % 2**31)

    def position(self, prompt_id: str) -> int | None:
        """Tell a run's place in the queue: 0 while it runs, None when it is not there."""
        return self.http.run(self.comfyui.position(prompt_id))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + WAIT_S
        while not condition():
            require(time.monotonic() < end, f"after {WAIT_S:.0f} s: {what}")
            pause(0.1)

    def saved(self, result: GenerationResult, kind: str) -> Path:
        """Require one file of a kind on this machine, and return its path."""
        result.raise_for_failure()
        require(bool(result.files), "no file came")
        file = result.files[0]
        require(file.type == kind, f"the file is {file.type}, not {kind}")
        if file.local_path is None:
            raise AssertionError("the file is not on this machine")
        require(file.local_path.stat().st_size > 0, "the file is empty")
        return file.local_path


pause: Final = threading.Event().wait
"""Wait some seconds; Ctrl-C ends it."""


def require(condition: bool, otherwise: str) -> None:
    """Fail a check."""
    if not condition:
        raise AssertionError(otherwise)
