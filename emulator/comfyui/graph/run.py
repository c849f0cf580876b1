"""What a node may ask of the server while it works: files, progress, and whether it was interrupted."""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.comfyui import console
from emulator.comfyui.model_files import Library
from emulator.comfyui.settings import Folders, Knobs


class Interrupted(Exception):
    """The prompt was interrupted."""


class Failure(Exception):
    """A node failed. `kind` is the Python type that a real node would have raised."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class SavedName:
    """Where a node writes: the folder, and the pieces that ComfyUI reports."""

    folder: Path
    stem: str
    counter: int
    subfolder: str


@dataclass(frozen=True, slots=True)
class Run:
    """One node of one prompt at work.

    Attributes:
        metadata: text chunks for PNG files, by name; empty with --disable-metadata.
        report: called as `report(value, maximum, preview JPEG or None)`.
        previews: whether previews are wanted.
        loaded: checkpoints that are in memory already.
        prints: whether steps draw a progress bar on stderr.
    """

    node_id: str
    class_type: str
    modern: bool
    folders: Folders
    library: Library
    huggingface_cache: Path
    knobs: Knobs
    metadata: dict[str, str]
    interrupted: threading.Event
    report: Callable[[int, int, bytes | None], None]
    send_image: Callable[[bytes], None]
    previews: bool
    loaded: set[Path]
    prints: bool = False

    def check(self) -> None:
        """Raise if the prompt was interrupted."""
        if self.interrupted.is_set():
            raise Interrupted

    def wait(self, seconds: float) -> None:
        """Take time, as the real work would; ends at once when interrupted."""
        if self.interrupted.wait(None if seconds == math.inf else seconds):
            raise Interrupted

    def steps(self, count: int, preview: Callable[[], bytes] | None = None) -> None:
        """Go through the steps of a sampler, with progress and previews."""
        for step in range(1, count + 1):
            if self.knobs.step_s:
                self.wait(self.knobs.step_s)
            self.check()
            if self.prints:
                console.bar(step, count)
            self.report(step, count, preview() if preview and self.previews else None)

    def place(self, prefix: str, *, kind: str = "output", width: int = 0, height: int = 0) -> SavedName:
        """Choose the next free name for a prefix, which may hold folders and `%date%`-like marks.

        Raises:
            Failure: the prefix leaves the folder.
        """
        root = self.folders.temp if kind == "temp" else self.folders.output
        filled = _fill(prefix, width, height)
        subfolder, stem = os.path.split(os.path.normpath(filled))
        folder = Path(os.path.normpath(root / subfolder))
        if not folder.is_relative_to(root):
            raise Failure("Exception", "**** ERROR: Saving image outside the output folder is not allowed.")
        folder.mkdir(parents=True, exist_ok=True)
        pattern = re.compile(re.escape(stem) + r"_(\d+)")
        used = [int(match[1]) for entry in os.scandir(folder) if (match := pattern.match(entry.name))]
        return SavedName(folder, stem, max(used, default=0) + 1, subfolder)


def _fill(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    marks: dict[str, Any] = {
        "width": width,
        "height": height,
        "year": now.tm_year,
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    return re.sub(r"%(\w+)%", lambda match: str(marks.get(match[1], match[0])), prefix)
