"""How one ComfyUI was started: its folders, its version and its knobs. Plain values, no behaviour."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a ComfyUI keeps its files; each can be moved by a flag of its own."""

    base: Path
    models: Path
    input: Path
    output: Path
    temp: Path

    @classmethod
    def under(cls, base: Path, **moved: Path | None) -> Folders:
        """Lay the folders out under a base directory, but for those that were moved."""
        names = ("models", "input", "output", "temp")
        return cls(base, *((moved.get(name) or base / name).resolve() for name in names))

    @property
    def of_files(self) -> tuple[Path, ...]:
        """All of them but the base, which may hold other things."""
        return self.models, self.input, self.output, self.temp

    def of_type(self, name: str) -> Path | None:
        """Return the folder that ComfyUI's API calls `input`, `output` or `temp`; None for any other name."""
        return {"input": self.input, "output": self.output, "temp": self.temp}.get(name)


@dataclass(slots=True)
class Knobs:
    """What can be turned while it runs (`PATCH /_emulator/knobs`) and at start (`--emulate NAME=VALUE`)."""

    step_s: float = 0.0
    """How long one sampling step takes."""
    load_s: float = 0.0
    """How long it takes to load a checkpoint that was not loaded before."""
    start_s: float = 0.0
    """How long the program takes until it listens."""
    history_delay_s: float = 0.005
    """How long history lags behind `execution_success`: real servers were late in 9 to 15 % of tries."""
    vram_gb: float = 24.0
    """What the GPU has; a latent or checkpoint too big for it is a torch.OutOfMemoryError."""
    oom_in: str = ""
    """Class of a node that runs out of memory."""
    raise_in: str = ""
    """Class of a node that raises ValueError."""
    die_in: str = ""
    """Class of a node in which the program dies, as by the kernel's out-of-memory killer."""
    hang_in: str = ""
    """Class of a node that never ends, and can only be interrupted."""
    mute_sockets: float = 0.0
    """1: sockets open and stay open, and nothing that is said reaches them, as after the reconnect bug."""
    missing_nodes: str = ""
    """Classes, separated by commas, that failed to import and are therefore not there."""

    def update(self, changes: dict[str, Any]) -> list[str]:
        """Apply changes by name and return the problems; with any problem nothing is applied."""
        problems = []
        for name, value in changes.items():
            if name not in self.__dataclass_fields__:
                problems.append(f"unknown knob {name!r}; available: {', '.join(self.__dataclass_fields__)}")
            elif not isinstance(value, str if isinstance(getattr(self, name), str) else (int, float)):
                problems.append(f"knob {name!r} takes a {type(getattr(self, name)).__name__}, not {value!r}")
        if not problems:
            for name, value in changes.items():
                setattr(self, name, value)
        return problems

    def to_json(self) -> dict[str, Any]:
        """Return every knob and its value."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Settings:
    """One ComfyUI, as its command line described it.

    Attributes:
        extra_model_paths: `extra_model_paths.yaml` files, in the order of the command line.
        preview_method: none | auto | latent2rgb | taesd: whether sampling sends previews.
        huggingface_cache: folder of `models--…`, where node packs look for what huggingface_hub fetched.
        cache: whether the results of nodes are kept from one prompt to the next.
        prints: whether it draws progress bars on stderr, as ComfyUI's own program does.
        argv: shown by `/system_stats`.
    """

    folders: Folders
    version: Version = (0, 29, 0)
    extra_model_paths: tuple[Path, ...] = ()
    preview_method: str = "none"
    cache: bool = True
    metadata: bool = True
    huggingface_cache: Path = Path("huggingface-cache/hub")
    max_upload_bytes: int = 104_857_600
    any_origin: bool = False
    prints: bool = False
    argv: tuple[str, ...] = ("main.py",)
    knobs: Knobs = field(default_factory=Knobs)

    @property
    def modern(self) -> bool:
        """Tell whether this is a ComfyUI of 2026 (0.29) rather than one of 2025 (0.3.64)."""
        return self.version >= (0, 4, 0)
