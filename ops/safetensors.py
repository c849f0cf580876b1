"""The header of a safetensors file: whether the file is whole, and what its metadata says it is.

The format is a length (8 bytes, little-endian), that much JSON, and the
tensors' bytes. Reading the header loads nothing and runs nothing.
Source: the format's description in huggingface/safetensors, README, read 2026-11.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# The reference implementation refuses longer ones.
_LONGEST_HEADER: Final = 100_000_000
# What is saved in a model's place by mistake, and how it begins.
_MISTAKEN: Final = (
    (b"version https://git-lfs", "it is a pointer of Git LFS; the file itself was not fetched"),
    (b"<!doctype html", "it is a web page; its source may want a login"),
    (b"<html", "it is a web page; its source may want a login"),
)
_LONGEST_MARK: Final = 64
_ARCHITECTURE_KEYS: Final = ("modelspec.architecture", "ss_base_model_version", "general.architecture")


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says: the architecture where it is named, and what is wrong with the file if anything."""

    architecture: str | None = None
    problem: str | None = None


def read_header(path: Path) -> Header:
    """Read a file's header and compare it with the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_LONGEST_MARK)
            mistaken = next(
                (what for mark, what in _MISTAKEN if start.lstrip().lower().startswith(mark)), None
            )
            if mistaken is not None:
                return Header(problem=mistaken)
            if len(start) < 8:
                return Header(problem="it is too short for a safetensors file")
            (length,) = struct.unpack("<Q", start[:8])
            if length > min(_LONGEST_HEADER, size - 8):
                return Header(problem="it is no safetensors file, or its end is missing")
            file.seek(8)
            header: Any = json.loads(file.read(length))
    except OSError as error:
        return Header(problem=f"it cannot be read: {error.strerror or error}")
    except (ValueError, RecursionError):
        return Header(problem="its header is damaged")
    if not isinstance(header, dict):
        return Header(problem="its header is damaged")
    metadata = header.pop("__metadata__", {})
    try:
        end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        return Header(problem="its header is damaged")
    expected = 8 + length + end
    problem = None if expected == size else f"it has {size} bytes and its header promises {expected}"
    return Header(_architecture(metadata), problem)


def _architecture(metadata: object) -> str | None:
    """Find the name of the architecture in free-form metadata."""
    if not isinstance(metadata, dict):
        return None
    for key in _ARCHITECTURE_KEYS:
        value = metadata.get(key)
        if isinstance(value, str) and value and value != "unknown":
            return value
    return None
