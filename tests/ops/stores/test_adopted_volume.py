"""A volume that pods filled is adopted: no byte is lost, and what is there is not fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.flow.http_driver import Http
from ops.models.volume_layout import REPLACED
from ops.registry.load import Model, ModelFile, Registry
from ops.stores.directory import FolderStore
from ops.stores.model_store import ModelStore
from ops.sync.apply import apply
from ops.sync.plan import compare
from tests.support.emulation import Emulator
from tests.support.ops_places import Served, folder, put, safetensors, serve, sources_of
from tests.support.ops_shelf import Shelf

COMMIT = "a" * 40
HUB = "huggingface-cache/hub/models--org--name"


@pytest.fixture(params=["folder", "s3"])
def volume(
    request: pytest.FixtureRequest, emu: Emulator, tmp_path: Path
) -> Iterator[tuple[ModelStore, Path]]:
    """Open a volume as its worker sees it, and over S3."""
    with Http() as http:
        if request.param == "folder":
            yield folder(tmp_path / "volume", sources_of(emu, http)), tmp_path / "volume"
        else:
            shelf = Shelf(emu, http, tmp_path / "machine")
            yield shelf.store(), shelf.folder


def _contents(root: Path) -> list[bytes]:
    """Read every file of a volume once, but for records and locks of this tool."""
    found = {
        (stat.st_dev, stat.st_ino): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not _is_ours(path.relative_to(root).as_posix()) and (stat := path.stat())
    }
    return sorted(found.values())


def _is_ours(path: str) -> bool:
    return path.startswith(".comfyform/") and not path.startswith(f"{REPLACED}/")


def _file(path: str, served: Served, *, pinned: bool = True) -> ModelFile:
    return ModelFile(
        path=path,
        volume_path=f"models/{path}",
        source=served.source,
        size_bytes=served.size_bytes if pinned else None,
        sha256=served.sha256 if pinned else None,
    )


def test_a_volume_that_pods_filled_is_adopted(volume: tuple[ModelStore, Path], emu: Emulator):
    """Links, a cache, odd names, other places, own files, a link that leads nowhere: all stays as it is."""
    store, root = volume
    content = {name: safetensors(300_000 + seed, seed=seed) for seed, name in enumerate(("a", "b", "c", "d"))}
    served = {name: serve(emu, name=f"{name}.safetensors", content=data) for name, data in content.items()}
    other = safetensors(served["d"].size_bytes, seed=99)
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
    put(root / "models/loras/a.safetensors", content["a"])
    put(root / "ComfyUI/models/checkpoints/b.safetensors", content["b"])
    put(root / "vae/c.safetensors", content["c"])
    put(root / "models/loras/d.safetensors", other)
    blob = put(root / HUB / "blobs" / ("d" * 64), b"cached" * 500)
    put(root / HUB / "refs/main", COMMIT.encode())
    link = root / HUB / "snapshots" / COMMIT / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (root / "models/loras/linked.safetensors").symlink_to("my own.safetensors")
    (root / "models/embeddings").symlink_to("/workspace/gone/embeddings")
    before = _contents(root)
    wanted = (
        _file("loras/a.safetensors", served["a"]),
        _file("checkpoints/b.safetensors", served["b"]),
        _file("vae/c.safetensors", served["c"]),
        _file("loras/d.safetensors", served["d"]),
    )
    registry = Registry(path=Path("r.yaml"), required=(Model(name="wanted", files=wanted),))
    asked = {name: len(emu.requests("GET", f"/hub/files/{name}.safetensors")) for name in content}

    found = store.inventory()
    plan = compare(registry, found)
    done = {one.action.path: one.status for one in apply(plan, store)}
    again = compare(registry, store.inventory())

    assert done == {
        "models/checkpoints/b.safetensors": "moved",
        "models/loras/a.safetensors": "kept",
        "models/loras/d.safetensors": "fetched",
        "models/vae/c.safetensors": "moved",
    }
    for name in ("a", "b", "c"):
        assert len(emu.requests("GET", f"/hub/files/{name}.safetensors")) == asked[name]
    # The only new bytes are those of the file whose name held others; these are set aside.
    assert _contents(root) == sorted([*before, content["d"]])
    for path, data in own.items():
        assert (root / path).read_bytes() == data
    for file, name in zip(wanted, content, strict=True):
        assert (root / file.volume_path).read_bytes() == content[name]
    assert link.read_bytes() == blob.read_bytes()
    assert (root / "models/embeddings").readlink() == Path("/workspace/gone/embeddings")
    assert again.changes == ()
    assert plan.elsewhere == ("ComfyUI/models/loras/unknown.safetensors",)
    # S3 shows links as what they lead to, and a link that leads nowhere not at all.
    leads_nowhere = "models/embeddings cannot be read: it is a link to /workspace/gone/embeddings"
    assert [warning.partition(",")[0] for warning in found.warnings] == (
        [leads_nowhere] if isinstance(store, FolderStore) else []
    )
