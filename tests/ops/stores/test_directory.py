"""A folder of models: what is provisioned is right, complete and recorded, and nothing else has its name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.errors import (
    ComfyformError,
    HashMismatch,
    InvalidArgument,
    PartialApply,
    SourceMissing,
    TransferError,
    VolumeFull,
)
from backend.flow.http_driver import Http
from ops.models.volume_layout import record_path
from ops.sources.origins import Sources
from tests.support.emulation import Emulator
from tests.support.ops_places import FILE_GLOB, PATH, PIECE, folder, put, serve, sources_of


@pytest.fixture
def sources(emu: Emulator) -> Iterator[Sources]:
    """Yield the sources of the emulator."""
    with Http() as http:
        yield sources_of(emu, http)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(root: Path) -> list[str]:
    """List what lies about beside models, records and locks."""
    own = root / ".comfyform"
    return sorted(
        str(path.relative_to(own))
        for path in own.rglob("*")
        if path.is_file() and path.relative_to(own).parts[0] not in {"records", "locks"}
    )


def test_a_file_is_fetched_with_its_hash(emu: Emulator, sources: Sources, tmp_path: Path):
    """The bytes arrive whole, and nothing is left beside them but the record."""
    served = serve(emu)

    (answer,) = folder(tmp_path, sources).provision([served.wanted()])

    assert answer == {
        "path": PATH,
        "status": "fetched",
        "size_bytes": served.size_bytes,
        "sha256": served.sha256,
        "fetched_bytes": served.size_bytes,
    }
    assert sha256(tmp_path / PATH) == served.sha256
    assert leftovers(tmp_path) == []


def test_a_second_time_nothing_is_asked_for(emu: Emulator, sources: Sources, tmp_path: Path):
    """Provisioning is idempotent: the record is enough, and the source is not even looked at."""
    served = serve(emu)
    store = folder(tmp_path, sources)
    store.provision([served.wanted()])
    before = len(emu.requests())

    (answer,) = store.provision([served.wanted()])

    assert (answer["status"], answer["fetched_bytes"]) == ("kept", 0)
    assert len(emu.requests()) == before


def test_wrong_bytes_are_refused_and_the_old_file_is_untouched(
    emu: Emulator, sources: Sources, tmp_path: Path
):
    """A hash that does not match is an error with both hashes, after one more try from the beginning."""
    served = serve(emu)
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_bytes(b"the old file")
    wrong = "0" * 64

    with pytest.raises(HashMismatch) as caught:
        folder(tmp_path, sources).provision([served.wanted(sha256=wrong)])

    assert (caught.value.expected, caught.value.actual) == (wrong, served.sha256)
    assert (tmp_path / PATH).read_bytes() == b"the old file"
    assert leftovers(tmp_path) == [f"quarantine/{PATH}.{served.sha256[:12]}"]


@pytest.mark.parametrize("what_next", ["the hash is corrected", "another source", "removed"])
def test_quarantine_ends(emu: Emulator, sources: Sources, tmp_path: Path, what_next: str):
    """Bytes in quarantine are not paid for again when they were right after all, and never stay for good."""
    served, other = serve(emu), serve(emu, name="b.bin", seed="other")
    store = folder(tmp_path, sources)
    with pytest.raises(HashMismatch):
        store.provision([served.wanted(sha256=other.sha256)])
    before = len(emu.requests("GET", FILE_GLOB))

    match what_next:
        case "the hash is corrected":
            (answer,) = store.provision([served.wanted()])
            assert (answer["status"], answer["fetched_bytes"]) == ("fetched", 0)
            assert len(emu.requests("GET", FILE_GLOB)) == before
            assert sha256(tmp_path / PATH) == served.sha256
        case "another source":
            store.provision([other.wanted()])
            assert sha256(tmp_path / PATH) == other.sha256
        case _:
            assert store.remove([PATH]).missing == (PATH,)

    assert leftovers(tmp_path) == []


def test_quarantine_that_takes_the_room(
    emu: Emulator, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Where there is no room for a second try beside the wrong bytes, the error is still the wrong hash."""
    served = serve(emu)
    frees = iter([10**9, 1000])
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": next(frees), "total": 9})())

    with pytest.raises(HashMismatch, match="another file than the registry pins"):
        folder(tmp_path, sources).provision([served.wanted(sha256="0" * 64)])


def test_a_missing_file_is_one_sentence(sources: Sources, tmp_path: Path):
    """The error names the repository, the file and what to do."""
    required = {"path": PATH, "source": "hf:openai/whisper-tiny:no.bin"}

    with pytest.raises(SourceMissing) as caught:
        folder(tmp_path, sources).provision([required])  # type: ignore[list-item]

    assert str(caught.value) == (
        "openai/whisper-tiny on Hugging Face has no file 'no.bin' at main. It may have been renamed; "
        "see https://huggingface.co/openai/whisper-tiny/tree/main and correct the registry."
    )


def test_others_are_done_when_one_fails(emu: Emulator, sources: Sources, tmp_path: Path):
    """Of several files the good ones arrive, and one error names the bad ones."""
    good = serve(emu).wanted("models/vae/good.bin")
    bad = serve(emu, name="b.bin").wanted("models/vae/bad.bin", sha256="1" * 64)

    with pytest.raises(PartialApply) as caught:
        folder(tmp_path, sources).provision([bad, good])

    assert caught.value.done == ("models/vae/good.bin: fetched",)
    assert (tmp_path / "models/vae/good.bin").exists()
    assert not (tmp_path / "models/vae/bad.bin").exists()


def test_what_does_not_fit_is_refused_before_the_first_byte(
    emu: Emulator, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The space is looked at first."""
    served = serve(emu)
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000, "total": 9})())

    with pytest.raises(VolumeFull) as caught:
        folder(tmp_path, sources).provision([served.wanted()])

    assert usage.f_bavail > 0
    assert "1,000 are free" in str(caught.value)
    assert leftovers(tmp_path) == []


def test_what_does_not_fit_the_volume_is_refused_too(emu: Emulator, sources: Sources, tmp_path: Path):
    """The volume's size is less than its file system's; all that lies on it counts, jobs' outputs too."""
    served = serve(emu)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/film.mp4").write_bytes(bytes(1000))
    exactly = served.size_bytes + 1000

    with pytest.raises(
        VolumeFull, match=f"{served.size_bytes - 1:,} of the volume's {exactly - 1:,} are free"
    ):
        folder(tmp_path, sources, capacity_bytes=exactly - 1).provision([served.wanted()])
    (answer,) = folder(tmp_path, sources, capacity_bytes=exactly).provision([served.wanted()])

    assert answer["status"] == "fetched"


def test_two_at_once_fetch_once(emu: Emulator, sources: Sources, tmp_path: Path):
    """Two provisions of one file in one process: the second waits and finds it there."""
    served = serve(emu, size=8 * PIECE)
    answers = []

    def provision() -> None:
        answers.extend(folder(tmp_path, sources).provision([served.wanted()]))

    threads = [threading.Thread(target=provision) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer["status"] for answer in answers) == ["fetched", "kept"]
    assert sum(answer["fetched_bytes"] for answer in answers) == served.size_bytes


def test_a_file_of_the_cache_gets_its_ref(sources: Sources, tmp_path: Path):
    """A file in the Hugging Face cache layout is found by huggingface_hub, offline."""
    from huggingface_hub import try_to_load_from_cache

    revision = "84e5a410d9cead4de2f847e7c9369a6440bdfaca"
    path = f"huggingface-cache/hub/models--SWivid--F5-TTS/snapshots/{revision}/F5TTS_v1_Base/vocab.txt"
    source = f"hf:SWivid/F5-TTS@{revision}:F5TTS_v1_Base/vocab.txt"

    folder(tmp_path, sources).provision([{"path": path, "source": source}])
    found = try_to_load_from_cache(
        "SWivid/F5-TTS", "F5TTS_v1_Base/vocab.txt", cache_dir=tmp_path / "huggingface-cache" / "hub"
    )

    assert found == str(tmp_path / path)


def test_remove_takes_the_record_too(emu: Emulator, sources: Sources, tmp_path: Path):
    """After a removal nothing of the file is left, not even its folder."""
    store = folder(tmp_path, sources)
    store.provision([serve(emu).wanted()])

    removal = store.remove([PATH, "models/vae/none.bin"])

    assert (removal.removed, removal.missing) == ((PATH,), ("models/vae/none.bin",))
    assert not (tmp_path / "models").exists()
    assert not (tmp_path / record_path(PATH)).exists()


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "models/../../a", "outputs/a.png", ".comfyform/x"])
def test_a_path_outside_the_models_is_refused(sources: Sources, tmp_path: Path, path: str):
    """No action touches anything but model files."""
    store = folder(tmp_path, sources)

    for action in (
        lambda: store.provision([{"path": path, "source": "hf:a/b:c"}]),
        lambda: store.verify([{"path": path, "source": "hf:a/b:c"}]),
        lambda: store.remove([path]),
    ):
        with pytest.raises(InvalidArgument):
            action()


def test_a_link_does_not_lead_out(emu: Emulator, sources: Sources, tmp_path: Path):
    """A folder of the volume that is a link to elsewhere is not written through."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "volume"
    (root / "models").mkdir(parents=True)
    (root / "models" / "checkpoints").symlink_to(elsewhere)

    with pytest.raises(InvalidArgument, match="leads out of"):
        folder(root, sources).provision([serve(emu).wanted()])

    assert list(elsewhere.iterdir()) == []


OWN = ".comfyform"


@pytest.mark.parametrize(
    ("link", "content"),
    [
        (f"{OWN}/partial/models/checkpoints", {}),
        (f"{OWN}/partial/models/checkpoints/a.bin", {}),
        (f"{OWN}/records/models/checkpoints", {}),
        (f"{OWN}/quarantine/models/checkpoints", {"sha256": "0" * 64}),
        (f"{OWN}/locks", {}),
        (OWN, {}),
        ("models/checkpoints", {}),
        ("models/checkpoints/a.bin", {}),
    ],
)
def test_no_link_among_our_own_folders_is_followed(
    emu: Emulator, sources: Sources, tmp_path: Path, link: str, content: dict[str, str]
):
    """A node pack writes the volume; through a link the ops worker would write and delete outside it."""
    root, outside = tmp_path / "volume", tmp_path / "outside"
    victim = put(outside / "a.bin", b"victim")
    place = root / link
    place.parent.mkdir(parents=True)
    place.symlink_to(victim if link.endswith(".bin") else outside)
    (root / "models").mkdir(exist_ok=True)

    with contextlib.suppress(InvalidArgument, TransferError):
        folder(root, sources).provision([serve(emu).wanted(**content)])

    assert [file.name for file in outside.rglob("*") if file.is_file()] == ["a.bin"]
    assert victim.read_bytes() == b"victim"


def test_a_local_source_is_explained(sources: Sources, tmp_path: Path):
    """A worker cannot have a file that lies on a laptop, and says what to do."""
    with pytest.raises(SourceMissing, match="--transport s3"):
        folder(tmp_path, sources).provision([{"path": PATH, "source": "local:loras/mine.safetensors"}])


def test_a_missing_volume_is_an_error(sources: Sources, tmp_path: Path):
    """A volume that is not mounted never looks like an empty one."""
    with pytest.raises(TransferError):
        folder(tmp_path / "not-mounted", sources).inventory()


def test_an_inventory_survives_json(emu: Emulator, sources: Sources, tmp_path: Path):
    """What the worker sends is what the client reads."""
    import json

    from ops.models.inventory import Inventory

    store = folder(tmp_path, sources)
    store.provision([serve(emu).wanted()])
    found = store.inventory(hash=True)

    assert Inventory.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(ComfyformError):
        Inventory.from_json({"inventory": [{"path": 1}]})


def test_a_name_that_is_not_utf8_does_not_end_a_look(sources: Sources, tmp_path: Path):
    """It is left out with a warning that can be sent and read: a job's answer is UTF-8."""
    loras = tmp_path / "models/loras"
    loras.mkdir(parents=True)
    (loras / "fine.pt").touch()
    (loras / os.fsdecode(b"bad\xff.pt")).touch()
    os.mkfifo(loras / "pipe.pt")

    found = folder(tmp_path, sources).inventory(hash=True)

    assert list(found.files) == ["models/loras/fine.pt"]
    assert found.warnings == (r"models/loras/bad\xff.pt cannot be read: its name is not UTF-8",)
