"""Places for the tests of ops: a folder, a hub with a file in it, and a pace without patience."""

from __future__ import annotations

import base64
import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backend.contract import WantedFile
from backend.flow import Retry
from backend.flow.http_driver import Http
from backend.settings import Settings
from ops.sources.origins import Sources
from ops.stores.directory import FolderStore
from ops.threads.retry import Pace
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator

PIECE = 256 * 1024
QUICK = Pace(
    piece_bytes=PIECE,
    connections=3,
    silence_s=HANG_S,
    deadline_s=HANG_S,
    retry=Retry(attempts=4, first_s=0.01, most_s=0.02),
)
PATH = "models/checkpoints/a.bin"
FILE_GLOB = "/hub/files/a.bin"


@dataclass(frozen=True)
class Served:
    """A file of the emulated web server: its source, and what its bytes are."""

    source: str
    size_bytes: int
    sha256: str

    def wanted(self, path: str = PATH, **changes: Any) -> WantedFile:
        """Want this file."""
        value = {"path": path, "source": self.source, "size_bytes": self.size_bytes, "sha256": self.sha256}
        return cast("WantedFile", value | changes)


def serve(emu: Emulator, *, name: str = "a.bin", size: int = 5 * PIECE + 123, **odd: Any) -> Served:
    """Put a file of pseudo-random bytes on the emulated web server."""
    body: dict[str, Any] = {"name": name, "size_bytes": size} | odd
    if isinstance(odd.get("content"), bytes):
        body = {"name": name, "content_b64": base64.b64encode(body.pop("content")).decode()}
    created = emu.control("POST", "/hub/files", body)
    return Served(f"url:{emu.url('hub')}{created['path']}", created["size_bytes"], created["sha256"])


def settings_of(emu: Emulator, **more: str) -> Settings:
    """Return the settings that point at the emulator."""
    return Settings.from_env(emu.env | more)


def sources_of(emu: Emulator, http: Http, **more: str) -> Sources:
    """Return the sources that the emulator serves."""
    return Sources.from_settings(settings_of(emu, **more), http)


def folder(root: Path, sources: Sources, **options: Any) -> FolderStore:
    """Return a folder store that loses patience quickly."""
    return FolderStore(root, sources, **({"pace": QUICK} | options))


def bytes_asked(emu: Emulator, glob: str = FILE_GLOB) -> int:
    """Count the requests for a file's bytes."""
    return len(emu.requests("GET", glob))


def bytes_sent(emu: Emulator, glob: str = FILE_GLOB) -> int:
    """Count the bytes that were sent of a file."""
    return sum(
        request["sent_bytes"] for request in emu.requests("GET", glob) if request["status"] in {200, 206}
    )


def safetensors(size: int, *, seed: int = 0) -> bytes:
    """Make a valid safetensors file of that many bytes, at least 120; the seed decides them."""
    room = 104
    tensors = {"a": {"dtype": "U8", "shape": [size - 8 - room], "data_offsets": [0, size - 8 - room]}}
    header = json.dumps(tensors).encode().ljust(room)
    return struct.pack("<Q", room) + header + random.Random(seed).randbytes(size - 8 - room)


def put(path: Path, content: bytes = b"x") -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def told(**categories: list[str]) -> list[dict[str, Any]]:
    """Make a ComfyUI's answer about its model folders, in the recorded shape."""
    return [
        {"name": name, "folders": folders, "extensions": [".safetensors"]}
        for name, folders in categories.items()
    ]


def kept(journal: Path) -> int:
    """Read from a journal how many bytes are here; the journal may not exist yet."""
    from ops.download.partial_file import HEADER_BYTES

    if not journal.exists():
        return 0
    content = journal.read_bytes()[HEADER_BYTES:]
    return sum(int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content), 4))
