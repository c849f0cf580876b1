"""Records of a folder's files: when they are believed, when they are not, and what a deep look does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.errors import TransferError
from backend.flow.http_driver import Http
from ops.models.record import Record
from ops.models.volume_layout import record_path
from ops.sources.origins import Sources
from ops.stores.directory import FolderStore
from tests.support.emulation import Emulator
from tests.support.ops_places import PATH, folder, serve, sources_of


@pytest.fixture
def sources(emu: Emulator) -> Iterator[Sources]:
    """Yield the sources of the emulator."""
    with Http() as http:
        yield sources_of(emu, http)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_lies_there_without_a_record_is_hashed_and_kept(
    emu: Emulator, sources: Sources, tmp_path: Path
):
    """A writer that died between the file and its record costs a hashing, not a fetch."""
    served = serve(emu)
    store = folder(tmp_path, sources)
    store.provision([served.wanted()])
    (tmp_path / record_path(PATH)).unlink()

    (answer,) = store.provision([served.wanted()])

    assert answer["status"] == "kept"
    assert store.inventory().files[PATH]["how"] == "recorded"


def test_a_record_does_not_speak_of_a_file_that_was_touched(emu: Emulator, sources: Sources, tmp_path: Path):
    """Bytes that were changed behind our back, at the same size, are no longer known, and are mended."""
    served = serve(emu)
    store = folder(tmp_path, sources)
    store.provision([served.wanted()])
    damaged = bytearray((tmp_path / PATH).read_bytes())
    damaged[1000] ^= 1
    (tmp_path / PATH).write_bytes(damaged)
    os.utime(tmp_path / PATH, (1_000_000, 1_000_000))

    pending = store.inventory().files[PATH]
    (answer,) = store.provision([served.wanted()])

    assert (pending["how"], pending["sha256"]) == ("unknown", None)
    assert answer["status"] == "fetched"
    assert sha256(tmp_path / PATH) == served.sha256


def test_a_record_never_speaks_of_the_file_after_it(
    emu: Emulator, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that ends between a new file and its record leaves none, not the record of the older one."""
    first = serve(emu, seed="first")
    store = folder(tmp_path, sources)
    store.provision([first.wanted()])
    second = serve(emu, seed="second")

    def fail(*_: object) -> None:
        raise TransferError("no record")

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "_write_record", fail)
        with pytest.raises(TransferError, match="no record"):
            store.provision([second.wanted()])

    (checked,) = store.verify([first.wanted()])
    (again,) = store.provision([second.wanted()])

    assert (checked["ok"], checked["sha256"]) == (False, None)
    assert again["status"] == "kept"


def test_verify_tells_and_does_not_raise(emu: Emulator, sources: Sources, tmp_path: Path):
    """A missing and a damaged file are answers; only a deep look sees a change that kept size and time.

    What it saw is not forgotten: the record that was wrong is gone, so the file is mended.
    """
    served = serve(emu)
    store = folder(tmp_path, sources)
    store.provision([served.wanted()])
    stat = (tmp_path / PATH).stat()
    damaged = bytearray((tmp_path / PATH).read_bytes())
    damaged[0] ^= 1
    (tmp_path / PATH).write_bytes(damaged)
    os.utime(tmp_path / PATH, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    required = [served.wanted(), served.wanted("models/vae/none.bin")]

    shallow = store.verify(required)
    deep = store.verify(required, deep=True)
    (mended,) = store.provision([served.wanted()])

    assert [file["ok"] for file in shallow] == [True, False]
    assert [file["ok"] for file in deep] == [False, False]
    assert deep[0]["reason"].startswith("sha256 is ")
    assert deep[1]["reason"] == "file not found"
    assert (mended["status"], sha256(tmp_path / PATH)) == ("fetched", served.sha256)


@pytest.mark.parametrize("damage", ["deleted", "it lies", "it is a folder"])
def test_a_record_that_is_wrong_costs_no_fetch(emu: Emulator, sources: Sources, tmp_path: Path, damage: str):
    """When the bytes are right, a deep look says so whatever the record says, and the file is kept."""
    served = serve(emu)
    store = folder(tmp_path, sources)
    store.provision([served.wanted()])
    record = tmp_path / record_path(PATH)
    if damage == "it lies":
        record.write_text(record.read_text().replace(served.sha256, "0" * 64))
    else:
        record.unlink()
    if damage == "it is a folder":
        record.mkdir()

    (shallow,) = store.verify([served.wanted()])
    (deep,) = store.verify([served.wanted()], deep=True)
    if record.is_dir():
        record.rmdir()
    (remaining,) = store.provision([served.wanted()])

    assert (shallow["ok"], deep["ok"]) == (False, True)
    assert (remaining["status"], remaining["fetched_bytes"]) == ("kept", 0)


@pytest.mark.parametrize(
    ("later_s", "known"), [(0.0, True), (1.9, True), (-1.9, True), (2.5, False), (19.0, False)]
)
def test_a_record_speaks_of_a_file_for_two_seconds(later_s: float, known: bool):
    """Network file systems round times; a file that changed later than that is another file."""
    record = Record.now(10, "a" * 64, None, modified_s=1_000.0)

    assert record.speaks_of(10, 1_000.0 + later_s) is known
    assert record.speaks_of(11, 1_000.0) is False
