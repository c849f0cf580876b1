"""What flows along a graph's links. Symbols of what was asked for, turned into pixels and samples late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Weights:
    """A loaded model of any kind: the file behind it, what its header says it is, and LoRAs put on it."""

    path: Path
    architecture: str
    loras: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its ending, for captions."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class Conditioning:
    """An encoded prompt."""

    text: str
    guidance: float | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A batch of images: its size in pixels and a way to draw the n-th one."""

    width: int
    height: int
    count: int
    draw: Callable[[int], Image]


@dataclass(frozen=True, slots=True)
class Latent:
    """A batch of latents; `picture` is what they would decode to, None for an empty one."""

    width: int
    height: int
    count: int
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class Sound:
    """Audio: signed 16-bit mono samples, little-endian."""

    samples: bytes = field(repr=False)
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / 2 / self.rate


@dataclass(frozen=True, slots=True)
class Film:
    """Frames at a rate, with or without sound."""

    frames: Picture
    fps: float
    sound: Sound | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The result of a node that shows something: its outputs and what history tells about them."""

    outputs: tuple[Any, ...]
    ui: dict[str, list[Any]]
