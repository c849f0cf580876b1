"""A volume that pods filled is adopted: no byte is lost, and what is there is not fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.flow.http_driver import Http
from ops.registry.load import Model, ModelFile, Registry
from ops.stores.directory import FolderStore
from ops.stores.model_store import ModelStore
from ops.sync.apply import apply
from ops.sync.plan import compare
from tests.support.emulation import Emulator
from tests.support.ops_places import Served, folder, put, sources_of
from tests.support.ops_shelf import Shelf
from tests.support.pod_volume import PLACES, REPLACED_FILE, PodVolume, fetches, fill

ALIAS = "text_encoders/e.safetensors"
DECOMPOSED = "loras/caf\u00e9.safetensors"
ODD_NAME = "loras/ink.safetensors"


@pytest.fixture(params=["folder", "s3"])
def volume(
    request: pytest.FixtureRequest, emu: Emulator, tmp_path: Path
) -> Iterator[tuple[ModelStore, PodVolume]]:
    """Open a volume that pods filled as its worker sees it, and over S3."""
    with Http() as http:
        if request.param == "folder":
            store: ModelStore = folder(tmp_path / "volume", sources_of(emu, http))
            yield store, fill(emu, tmp_path / "volume")
        else:
            shelf = Shelf(emu, http, tmp_path / "machine")
            yield shelf.store(), fill(emu, shelf.folder)


def _file(path: str, served: Served) -> ModelFile:
    return ModelFile(
        path=path,
        volume_path=f"models/{path}",
        source=served.source,
        size_bytes=served.size_bytes,
        sha256=served.sha256,
    )


def test_a_plan_adopts_a_volume_that_pods_filled(volume: tuple[ModelStore, PodVolume], emu: Emulator):
    """Links, a cache, odd names, other places, own files, a link that leads nowhere: all stays as it is."""
    store, pod = volume
    files = tuple(_file(path, served) for path, served in pod.served.items())
    registry = Registry(path=Path("r.yaml"), required=(Model(name="wanted", files=files),))
    before = {path: fetches(emu, served) for path, served in pod.served.items()}

    found = store.inventory()
    plan = compare(registry, found)
    done = {one.action.path.removeprefix("models/"): one.status for one in apply(plan, store)}
    again = compare(registry, store.inventory())

    assert done == dict.fromkeys(PLACES, "moved") | {
        "loras/a.safetensors": "kept",
        REPLACED_FILE: "fetched",
    }
    for path in PLACES:
        assert fetches(emu, pod.served[path]) == before[path]
    pod.check_intact()
    assert again.changes == ()
    assert "ComfyUI/models/loras/unknown.safetensors" in plan.elsewhere
    # S3 shows links as what they lead to, and a link that leads nowhere not at all.
    leads_nowhere = "models/embeddings cannot be read: it is a link to /workspace/gone/embeddings"
    assert [warning.partition(",")[0] for warning in found.warnings] == (
        [leads_nowhere] if isinstance(store, FolderStore) else []
    )


def test_a_wanted_file_is_found_without_a_plan(volume: tuple[ModelStore, PodVolume], emu: Emulator):
    """`pulumi up` wants files one by one and names no other place: equal bytes are moved, not fetched."""
    store, pod = volume
    before = {path: fetches(emu, served) for path, served in pod.served.items()}

    answers = {
        path: store.provision([served.wanted(f"models/{path}")])[0] for path, served in pod.served.items()
    }

    for path, place in PLACES.items():
        assert fetches(emu, pod.served[path]) == before[path]
        assert answers[path]["status"] == "kept"
        assert answers[path].get("moved_from", place) == place
        assert store.inventory().files[f"models/{path}"]["how"] == "recorded"
    assert answers[REPLACED_FILE]["status"] == "fetched"
    pod.check_intact()


def test_a_file_that_nothing_identifies_is_not_moved(volume: tuple[ModelStore, PodVolume], emu: Emulator):
    """Without a sha256 nothing says that the file of that name in another place is the wanted one."""
    store, pod = volume
    served = pod.served["vae/c.safetensors"]

    (done,) = store.provision([served.wanted("models/vae/c.safetensors", sha256=None)])

    assert (done["status"], "moved_from" in done) == ("fetched", False)
    assert (pod.root / "vae/c.safetensors").read_bytes() == pod.contents["vae/c.safetensors"]


@pytest.mark.parametrize("path", [ALIAS, DECOMPOSED])
def test_a_file_is_verified_under_each_of_its_names(volume: tuple[ModelStore, PodVolume], path: str):
    """A folder's alias and the two forms of a letter mean the same model to ComfyUI."""
    store, pod = volume
    required = pod.served[path].wanted(f"models/{path}")

    (shallow,) = store.verify([required])
    (deep,) = store.verify([required], deep=True)

    assert (shallow["ok"], shallow["reason"]) == (False, f"size matches; checksum unknown, as {PLACES[path]}")
    assert (deep["ok"], deep["reason"]) == (True, f"size and sha256 match, as {PLACES[path]}")
    assert deep["path"] == required["path"]


def test_two_writers_move_one_file_once(emu: Emulator, tmp_path: Path):
    """Of two wanted files with the same bytes one gets the file that is there, and the other is fetched."""
    with Http() as http:
        store = folder(tmp_path, sources_of(emu, http))
        pod = fill(emu, tmp_path)
        served = pod.served["vae/c.safetensors"]
        stale = [
            one for one in store._others("models/vae/c.safetensors") if one["path"] == "vae/c.safetensors"
        ]

        first, second = store.provision([served.wanted(f"models/vae/{name}.safetensors") for name in "xy"])

        assert (first["status"], second["status"]) == ("kept", "fetched")
        assert not store._move(stale[0], "models/vae/z.safetensors")
        assert not (tmp_path / "models/vae/z.safetensors").exists()


def test_an_own_name_is_never_taken_for_another(emu: Emulator, tmp_path: Path):
    """A removal names one file exactly: its alias may be another model's."""
    with Http() as http:
        store = folder(tmp_path, sources_of(emu, http))
        put(tmp_path / "models/clip/x.safetensors")

        removal = store.remove(["models/text_encoders/x.safetensors"])

        assert removal.missing == ("models/text_encoders/x.safetensors",)
        assert (tmp_path / "models/clip/x.safetensors").exists()
