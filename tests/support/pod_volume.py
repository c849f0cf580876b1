"""A volume as pods leave it: links, a Hugging Face cache, odd names, other places, own files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ops.models.volume_layout import REPLACED
from tests.support.emulation import Emulator
from tests.support.ops_places import Served, put, safetensors, serve

COMMIT = "a" * 40
HUB = "huggingface-cache/hub/models--org--name"
PLACES = {
    "loras/a.safetensors": "models/loras/a.safetensors",
    "checkpoints/b.safetensors": "ComfyUI/models/checkpoints/b.safetensors",
    "vae/c.safetensors": "vae/c.safetensors",
    "text_encoders/e.safetensors": "models/clip/e.safetensors",
    "loras/caf\u00e9.safetensors": "models/loras/cafe\u0301.safetensors",
    "loras/ink.safetensors": "ComfyUI/models/loras/墨心\uff1a水墨.safetensors",
}
"""Wanted files, by their path in a registry, and where the pod has their bytes."""
REPLACED_FILE = "loras/d.safetensors"
"""A wanted file whose name holds other bytes."""


@dataclass
class PodVolume:
    """A filled volume.

    Attributes:
        root: its folder.
        served: wanted files by their path in a registry; the web server has their bytes.
        contents: of those.
        own: files that nothing wants, by path from the root.
        before: every file's bytes, sorted.
    """

    root: Path
    served: dict[str, Served]
    contents: dict[str, bytes]
    own: dict[str, bytes]
    before: list[bytes]

    def check_intact(self) -> None:
        """Assert that only the bytes of the replaced file are new, and that every wanted file has its own."""
        assert file_contents(self.root) == sorted([*self.before, self.contents[REPLACED_FILE]])
        for path, data in self.own.items():
            assert (self.root / path).read_bytes() == data
        for path, data in self.contents.items():
            assert (self.root / "models" / path).read_bytes() == data
        link = self.root / HUB / "snapshots" / COMMIT / "model.safetensors"
        assert link.is_symlink()
        assert link.read_bytes() == b"cached" * 500
        assert (self.root / "models/loras/linked.safetensors").is_symlink()
        assert (self.root / "models/embeddings").readlink() == Path("/workspace/gone/embeddings")


def fill(emu: Emulator, root: Path) -> PodVolume:
    """Fill a volume, and put the wanted files on the emulated web server."""
    required = [*PLACES, REPLACED_FILE]
    contents = {path: safetensors(200_000 + 7 * seed, seed=seed) for seed, path in enumerate(required)}
    served = {
        path: serve(emu, name=f"{number}.safetensors", content=data)
        for number, (path, data) in enumerate(contents.items())
    }
    own = {
        "models/loras/墨心\uff1a水墨.safetensors": b"odd name",
        "models/loras/my own.safetensors": b"own model",
        "models/loras/what?.safetensors": b"question",
        "ComfyUI/models/loras/unknown.safetensors": b"nothing wants it",
        "ComfyUI/output/picture.png": b"a picture",
        "notes.txt": b"notes",
    }
    for path, data in own.items():
        put(root / path, data)
    for path, place in PLACES.items():
        put(root / place, contents[path])
    put(root / "models" / REPLACED_FILE, safetensors(served[REPLACED_FILE].size_bytes, seed=99))
    blob = put(root / HUB / "blobs" / ("d" * 64), b"cached" * 500)
    put(root / HUB / "refs/main", COMMIT.encode())
    link = root / HUB / "snapshots" / COMMIT / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (root / "models/loras/linked.safetensors").symlink_to("my own.safetensors")
    (root / "models/embeddings").symlink_to("/workspace/gone/embeddings")
    return PodVolume(root, served, contents, own, file_contents(root))


def file_contents(root: Path) -> list[bytes]:
    """Read every file of a volume once, except records and locks of this tool."""
    found = {
        (stat.st_dev, stat.st_ino): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not _is_ours(path.relative_to(root).as_posix()) and (stat := path.stat())
    }
    return sorted(found.values())


def _is_ours(path: str) -> bool:
    return path.startswith(".comfyform/") and not path.startswith(f"{REPLACED}/")


def fetches(emu: Emulator, served: Served) -> int:
    """Count the requests for a file's bytes."""
    return len(emu.requests("GET", "/hub/files/" + served.source.rpartition("/")[2]))
