"""Bytes that are made when they are read: model files of any size without a disk full of them.

The same key and size give the same bytes for ever, at any offset, at memory speed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import struct
from pathlib import Path
from typing import Protocol

BLOCK_BYTES = 1 << 20
HASH_BYTES = 8 << 20


class Content(Protocol):
    """Something that has a size and can be read anywhere."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    @property
    def key(self) -> str:
        """A name for the bytes: equal keys, equal bytes."""

    def read(self, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`."""


class Plain:
    """Bytes that are simply there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.key = hashlib.sha256(data).hexdigest()

    def read(self, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`."""
        return self._data[start : start + length]


class OnDisk:
    """The bytes of a file, as they are when they are read."""

    def __init__(self, path: Path) -> None:
        info = path.stat()
        self._path = path
        self.size = info.st_size
        self.key = f"{path}:{info.st_mtime_ns}"

    def read(self, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`."""
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(length)


class Seeded:
    """A prefix, and then pseudo-random bytes: one block repeated, its number stamped into each copy."""

    def __init__(self, key: str, size: int, prefix: bytes = b"") -> None:
        self.key = f"{key}:{size}"
        self.size = size
        self._seed = key
        self._prefix = prefix[:size]

    def read(self, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`."""
        end = min(start + length, self.size)
        parts: list[bytes | memoryview] = []
        if start < len(self._prefix):
            parts.append(self._prefix[start:end])
            start += len(parts[0])
        block = _block(self._seed)
        while start < end:
            number, at = divmod(start, BLOCK_BYTES)
            stop = min(BLOCK_BYTES, at + end - start)
            if at < 8:
                parts.append(struct.pack(">Q", number)[at : min(8, stop)])
                at = min(8, stop)
            parts.append(block[at:stop])
            start = number * BLOCK_BYTES + stop
        return b"".join(parts)


@functools.lru_cache(maxsize=32)
def _block(seed: str) -> memoryview:
    return memoryview(random.Random(seed).randbytes(BLOCK_BYTES))


def model_file(key: str, name: str, size: int, architecture: str | None = None) -> Content:
    """Make a file that looks like what its name says: safetensors, JSON, text, or weights of some kind.

    Args:
        key: decides the bytes.
        size: in bytes; text files may come out shorter, and a safetensors file has at least its header.
        architecture: goes into the metadata of a safetensors file.
    """
    if name.endswith(".safetensors"):
        return _safetensors(key, size, architecture or "unknown")
    if name.endswith(".json"):
        return Plain((json.dumps({"_name_or_path": key, "model_type": "emulated"}, indent=2) + "\n").encode())
    if name.endswith((".md", ".txt", ".yaml")):
        return Plain(f"# {key}\nMade by the emulator.\n".encode())
    return Seeded(key, size)


def _safetensors(key: str, size: int, architecture: str) -> Content:
    """Make a valid safetensors file: metadata, one small tensor, and a filler for the rest."""
    metadata = {"modelspec.architecture": architecture, "modelspec.title": key, "format": "pt"}
    # The header's length depends on the filler's, which depends on the header's: so it is padded.
    room = 512 + len(json.dumps(metadata)) // 8 * 8
    data = max(8, size - 8 - room)
    header = json.dumps(
        {
            "__metadata__": metadata,
            "emulated": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "filler": {"dtype": "U8", "shape": [data - 8], "data_offsets": [8, data]},
        }
    ).encode()
    return Seeded(key, 8 + room + data, struct.pack("<Q", room) + header.ljust(room))


def digest(content: Content, algorithm: str = "sha256", start: bytes = b"") -> str:
    """Hash a content from its beginning, after `start`; takes a second for each GiB."""
    hasher = hashlib.new(algorithm, start, usedforsecurity=False)
    for offset in range(0, content.size, HASH_BYTES):
        hasher.update(content.read(offset, HASH_BYTES))
    return hasher.hexdigest()
