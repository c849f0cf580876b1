"""A volume that pods and people filled: their files are read before anything replaces them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.contract import WantedFile
from backend.errors import ComfyformError, InvalidArgument, PartialApply
from backend.flow.http_driver import Http
from ops.models.inventory import Inventory
from ops.registry.load import Model, ModelFile, Registry
from ops.sources.origins import Sources
from ops.stores.model_store import ModelStore
from ops.stores.open import open_store
from ops.sync.apply import apply
from ops.sync.plan import Plan, compare
from tests.support.emulation import Emulator
from tests.support.ops_places import Served, bytes_asked, folder, put, safetensors, settings_of, sources_of
from tests.support.ops_places import serve as serve_bytes
from tests.support.ops_shelf import Shelf
from tests.support.worker_endpoint import Studio

pytestmark = pytest.mark.slow

HUB = "huggingface-cache/hub/models--org--name"
COMMIT = "a" * 40
ODD_NAMES = (
    "loras/good.safetensors",
    "loras/墨心\uff1a水墨\uff5cv1.safetensors",
    "loras/👩\u200d🎨 artist.safetensors",
    "loras/what?.safetensors",
    "loras/aux/inner.safetensors",
    "loras/a:b.safetensors",
    "loras/a\\b.safetensors",
    "loras/ends with a dot.",
    f"loras/{'x' * 238}.safetensors",
)
OWN = "models/loras/x.bin"


def serve(emu: Emulator, *, name: str = "a.bin", size: int = 1_300_000) -> Served:
    """Put a valid safetensors file on the emulated web server: only such bytes get that ending."""
    return serve_bytes(emu, name=name, content=safetensors(size))


class Place:
    """A volume with a store on it; ``root`` is its folder as a pod sees it."""

    def __init__(self, store: ModelStore, root: Path, sources: Sources) -> None:
        self.store = store
        self.root = root
        self.sources = sources

    def provision(self, served: Served, path: str = OWN, **changes: Any) -> dict[str, Any]:
        """Want a file, and return what became of it."""
        (done,) = self.store.provision([served.wanted(path, **changes)])
        return dict(done)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, emu: Emulator, tmp_path: Path) -> Iterator[Place]:
    """Open a volume as its worker sees it, and over S3."""
    with Http() as http:
        sources = sources_of(emu, http)
        if request.param == "folder":
            yield Place(folder(tmp_path, sources), tmp_path, sources)
        else:
            shelf = Shelf(emu, http, tmp_path / "machine")
            yield Place(shelf.store(), shelf.folder, sources)


def plan_for(found: Inventory, *files: ModelFile, prune: bool = False) -> Plan:
    models = (Model(name="wanted", files=files),) if files else ()
    return compare(Registry(path=Path("r.yaml"), required=models), found, prune=prune)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_this_tool_would_not_write_can_be_removed(place: Place, name: str):
    """Such a file is listed, planned for removal and gone afterwards."""
    put(place.root / "models" / name)

    plan = plan_for(place.store.inventory(), prune=True)
    apply(plan, place.store)

    assert [action.path for action in plan.changes] == [f"models/{name}"]
    assert place.store.inventory().files == {}


@pytest.mark.parametrize("path", ["models/../x", "models/a\\..\\..\\x", "/x", "models//x", "models/\0", "x"])
def test_a_removal_stays_in_its_folder(place: Place, path: str):
    """Names that exist may be odd, but they may not climb."""
    with pytest.raises(InvalidArgument):
        place.store.remove([path])


def test_the_bytes_that_a_source_announces_are_kept(place: Place, emu: Emulator):
    """The registry pins no hash and the hub announces one: the file is read where it lies, and kept."""
    required = WantedFile(path=OWN, source="hf:LeonJoe13/Sonic:Sonic/audio2bucket.pth")
    address = place.sources.resolve(required["source"]).url
    content = httpx.get(address, follow_redirects=True).content
    put(place.root / OWN, content)
    before = len(emu.requests("GET", "/cdn/*"))

    (done,) = place.store.provision([required])

    assert (done["status"], done["fetched_bytes"], done["sha256"]) == ("kept", 0, sha256(content))
    assert len(emu.requests("GET", "/cdn/*")) == before
    assert place.store.inventory().files[OWN]["how"] == "recorded"


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unknown"])
@pytest.mark.parametrize("size", ["same size", "other size"])
def test_other_bytes_are_set_aside(place: Place, emu: Emulator, pinned: bool, size: str):
    """Bytes that this tool did not bring are never lost; they are listed, and can be removed."""
    served = serve(emu)
    old = b"o" * (served.size_bytes if size == "same size" else 77)
    put(place.root / OWN, old)

    done = place.provision(served, sha256=served.sha256 if pinned else None, size_bytes=None)

    assert (done["status"], done["sha256"]) == ("fetched", served.sha256)
    assert sha256((place.root / OWN).read_bytes()) == served.sha256
    assert (place.root / done["set_aside"]).read_bytes() == old
    found = place.store.inventory()
    assert found.files[done["set_aside"]]["size_bytes"] == len(old)
    plan = plan_for(found, prune=True)
    assert {action.path for action in plan.changes} == {OWN, done["set_aside"]}
    assert place.store.remove([done["set_aside"]]).removed == (done["set_aside"],)
    assert list(place.store.inventory().files) == [OWN]


def test_bytes_that_this_tool_brought_are_replaced(place: Place, emu: Emulator):
    """They can be had again from their source, so they are not kept beside the new ones."""
    first, second = serve(emu), serve(emu, name="b.bin", size=1000)
    place.provision(first)

    done = place.provision(second)

    assert "set_aside" not in done
    assert list(place.store.inventory().files) == [OWN]


def test_a_fetch_that_fails_leaves_the_file_where_it_was(place: Place, emu: Emulator):
    """Nothing is moved, and no copy stays, when the new bytes could not be had."""
    served = serve(emu)
    put(place.root / OWN, b"mine")

    with pytest.raises(ComfyformError):
        place.provision(served, sha256="0" * 64)

    assert (place.root / OWN).read_bytes() == b"mine"
    assert [path for path in place.store.inventory().files if path != OWN] == []


@pytest.mark.parametrize("other", ["ComfyUI/models/loras/x.bin", "loras/x.bin"])
def test_a_file_in_another_place_is_moved(place: Place, emu: Emulator, other: str):
    """The plan offers it, and no byte is fetched; in a folder the pod's ComfyUI still finds it."""
    served = serve(emu, name="x.bin")
    content = _content(served)
    put(place.root / other, content)
    before = bytes_asked(emu, "/hub/files/x.bin")
    required = ModelFile(
        path="loras/x.bin",
        volume_path=OWN,
        source=served.source,
        size_bytes=served.size_bytes,
        sha256=served.sha256,
    )

    plan = plan_for(place.store.inventory(), required)
    (done,) = apply(plan, place.store)

    assert [(action.kind, action.lies_at) for action in plan.actions] == [("move", other)]
    assert done.status == "moved"
    assert bytes_asked(emu, "/hub/files/x.bin") == before
    assert (place.root / OWN).read_bytes() == content
    assert not (place.root / other).exists() or (place.root / other).is_symlink()
    after = place.store.inventory()
    assert (after.files[OWN]["how"], plan_for(after, required).changes) == ("recorded", ())


def test_other_bytes_in_another_place_stay_there(place: Place, emu: Emulator):
    """A file of the wanted name and size, but with other bytes, is not touched."""
    served = serve(emu)
    old = b"o" * served.size_bytes
    put(place.root / "ComfyUI/models/loras/x.bin", old)

    done = place.provision(served, lies_at="ComfyUI/models/loras/x.bin")

    assert (done["status"], done["sha256"]) == ("fetched", served.sha256)
    assert (place.root / "ComfyUI/models/loras/x.bin").read_bytes() == old


def _content(served: Served) -> bytes:
    return httpx.get(served.source.removeprefix("url:")).content


def cached(root: Path, *names: str) -> Path:
    """Make a cached repository as huggingface_hub does: each name is a link to one blob."""
    blob = put(root / HUB / "blobs" / ("d" * 64), b"x" * 9000)
    put(root / HUB / "refs/main", COMMIT.encode())
    for name in names:
        link = root / HUB / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return blob


@pytest.fixture
def here(emu: Emulator, tmp_path: Path) -> Iterator[Place]:
    """A volume as its worker sees it, where links can be told from files."""
    with Http() as http:
        sources = sources_of(emu, http)
        yield Place(folder(tmp_path, sources, capacity_bytes=1_000_000), tmp_path, sources)


def test_a_blob_goes_with_its_last_link(here: Place):
    """Two names of one blob are counted once; the first removal frees nothing, and says so."""
    blob = cached(here.root, "a.safetensors", "b/c.safetensors")
    found = here.store.inventory()
    first, second = sorted(found.files)

    assert found.used_bytes == 9000
    assert plan_for(found, prune=True).summary.freed_bytes == 9000
    assert plan_for(found, prune=True).only({first}).summary.freed_bytes == 0
    here.store.remove([first])
    assert blob.exists()
    here.store.remove([second])
    assert not blob.exists()
    assert here.store.inventory().used_bytes == 0


def test_a_blob_that_nothing_refers_to_is_listed(here: Place):
    """It is paid for, so it is shown and can be removed."""
    blob = cached(here.root)
    path = blob.relative_to(here.root).as_posix()

    plan = plan_for(here.store.inventory(), prune=True)
    apply(plan, here.store)

    assert [(action.path, action.size_bytes) for action in plan.changes] == [(path, 9000)]
    assert not blob.exists()


def test_a_link_to_a_file_elsewhere_frees_nothing(here: Place):
    """The file that it leads to is somebody's, and stays."""
    mine = put(here.root / "datasets/x.safetensors", b"x" * 500)
    link = here.root / OWN
    link.parent.mkdir(parents=True)
    link.symlink_to(mine)

    plan = plan_for(here.store.inventory(), prune=True)
    apply(plan, here.store)

    assert (plan.changes[0].path, plan.summary.freed_bytes) == (OWN, 0)
    assert mine.exists()
    assert not link.is_symlink()


def test_a_file_that_a_wanted_link_needs_stays(here: Place):
    """Prune does not make a wanted model dangle."""
    target = put(here.root / "models/loras/real.safetensors", b"x" * 500)
    (here.root / OWN).symlink_to(target)
    required = ModelFile(path="loras/x.bin", volume_path=OWN, source="hf:o/n:f", size_bytes=500)

    plan = plan_for(here.store.inventory(), required, prune=True)

    (remaining,) = [action for action in plan.actions if action.path.endswith("real.safetensors")]
    assert (remaining.kind, remaining.reason) == ("keep", f"{OWN} is a link to it")


def test_a_hard_link_counts_once(here: Place):
    """The bytes of a file with two names are freed with the second."""
    put(here.root / "models/loras/a.safetensors", b"x" * 500)
    os.link(here.root / "models/loras/a.safetensors", here.root / "models/loras/b.safetensors")

    plan = plan_for(here.store.inventory(), prune=True)

    assert plan.summary.freed_bytes == 500
    assert plan.only({"models/loras/a.safetensors"}).summary.freed_bytes == 0


def test_a_models_folder_that_leads_nowhere_is_said(here: Place, emu: Emulator):
    """The look and the fetch both name the link's target; neither looks like an empty volume."""
    (here.root / "models").symlink_to("/workspace/ComfyUI/models")

    found = here.store.inventory()

    assert found.warnings == (
        "models cannot be read: it is a link to /workspace/ComfyUI/models, which does not exist here",
    )
    with pytest.raises(InvalidArgument, match="through a link, to /workspace/ComfyUI/models/loras"):
        here.provision(serve(emu))


def test_a_linked_models_folder_is_not_another_place(here: Place):
    """Files that `models` leads to are listed under it alone."""
    put(here.root / "ComfyUI/models/loras/x.bin")
    (here.root / "models").symlink_to("ComfyUI/models")

    found = here.store.inventory()

    assert (list(found.files), list(found.elsewhere)) == ([OWN], [])


def test_many_removals_are_one_job(emu: Emulator):
    """A worker is paid by the job: 68 files go in one, and each is told of."""
    studio = Studio(emu, "comfyform/ops")
    for number in range(68):
        put(studio.volume / f"models/loras/what?{number}.safetensors")
    with Http() as http:
        more = {"RUNPOD_OPS_ENDPOINT_ID": studio.endpoint_id, "RUNPOD_VOLUME_ID": studio.volume_id}
        store = open_store(settings_of(emu, **more), http, transport="job")
        plan = plan_for(store.inventory(), prune=True)
        before = len(emu.requests("POST", f"/jobs/*{studio.endpoint_id}/run*"))

        done = apply(plan, store)

        after = len(emu.requests("POST", f"/jobs/*{studio.endpoint_id}/run*"))
    assert (len(done), {one.status for one in done}) == (68, {"removed"})
    assert before > 0
    assert after == before + 1
    assert list((studio.volume / "models").rglob("*.safetensors")) == []


def test_one_removal_that_fails_does_not_stop_the_others(here: Place):
    """A folder in a file's place is named; the rest is gone."""
    put(here.root / "models/loras/a.safetensors")
    (here.root / "models/loras/folder.safetensors").mkdir()

    with pytest.raises(PartialApply, match=r"folder\.safetensors"):
        here.store.remove(["models/loras/folder.safetensors", "models/loras/a.safetensors"])

    assert not (here.root / "models/loras/a.safetensors").exists()
