"""What a disk does to a file on its way: it is full, it loses what it took, and names come after bytes."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.errors import Unavailable, VolumeFull
from backend.flow.http_driver import Http
from ops.download import partial_file
from ops.download.partial_file import Partial
from ops.files import background_fsync
from ops.files.atomic import settle, write_whole
from ops.models.volume_layout import partial_path
from ops.sources.origins import Sources
from tests.support.emulation import Emulator
from tests.support.ops_places import FILE_GLOB, PATH, PIECE, folder, serve, sources_of


@pytest.fixture
def sources(emu: Emulator) -> Iterator[Sources]:
    """Yield the sources of the emulator."""
    with Http() as http:
        yield sources_of(emu, http)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_name_is_given_to_bytes_that_are_on_the_disk(
    emu: Emulator, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In this order: the bytes are flushed under another name, renamed, and the folder is flushed."""
    served = serve(emu)
    target = tmp_path / PATH
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(descriptor: int) -> None:
        fsync(descriptor)
        stat = os.fstat(descriptor)
        if stat.st_size == served.size_bytes:
            steps.append("named bytes" if target.exists() else "bytes")
        elif target.exists() and os.path.samestat(stat, target.parent.stat()):
            steps.append("folder")

    def rename(self: Path, to: Path) -> Path:
        if to == target:
            steps.append("name")
        return replace(self, to)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)

    folder(tmp_path, sources).provision([served.wanted()])

    assert steps == ["bytes", "name", "folder"]


def test_a_full_disk_is_said(
    emu: Emulator, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A disk that fills up in the middle is one sentence, and what came stays for the next time."""
    served = serve(emu)
    write = Partial.write

    def full(self: Partial, index: int, data: memoryview, at: int) -> None:
        if index >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, index, data, at)

    with monkeypatch.context() as patch:
        patch.setattr(Partial, "write", full)
        with pytest.raises(VolumeFull, match="No space left"):
            folder(tmp_path, sources).provision([served.wanted()])
    (answer,) = folder(tmp_path, sources).provision([served.wanted()])

    assert sha256(tmp_path / PATH) == served.sha256
    assert answer["fetched_bytes"] < served.size_bytes


@pytest.mark.parametrize("flush_bytes", [PIECE, 1 << 30], ids=["while more comes", "at the end"])
def test_bytes_that_a_failed_flush_lost_come_again(
    emu: Emulator, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush_bytes: int
):
    """A disk that takes bytes and then loses them is one sentence; what it lost is never taken for there.

    No hash is wanted, so nothing but the journal could say that bytes are missing.
    """
    served = serve(emu)

    def lose(descriptor: int) -> None:
        os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(background_fsync, "FLUSH_BYTES", flush_bytes)
        patch.setattr(partial_file, "Flusher", functools.partial(background_fsync.Flusher, to_disk=lose))
        with pytest.raises(VolumeFull, match="No space left"):
            folder(tmp_path, sources).provision([served.wanted(sha256=None)])
    assert not (tmp_path / PATH).exists()

    (answer,) = folder(tmp_path, sources).provision([served.wanted(sha256=None)])

    assert answer["sha256"] == served.sha256 == sha256(tmp_path / PATH)


def test_a_folder_that_is_removed_as_empty_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files of one folder come and go at the same time: who finds it gone makes it anew."""
    record, model = tmp_path / "records/a/x.json", tmp_path / "models/a/x.bin"
    aside = tmp_path / "x.partial"
    aside.write_bytes(b"bytes")
    make = Path.mkdir

    def make_and_lose(self: Path, *options: Any, **more: Any) -> None:
        make(self, *options, **more)
        if self in (record.parent, model.parent) and self not in lost:
            lost.add(self)
            self.rmdir()

    lost: set[Path] = set()
    monkeypatch.setattr(Path, "mkdir", make_and_lose)

    write_whole(record, b"{}")
    settle(aside, model)

    assert lost == {record.parent, model.parent}
    assert (record.read_bytes(), model.read_bytes()) == (b"{}", b"bytes")


@pytest.mark.parametrize("how", ["cut short", "unreadable"])
def test_kept_bytes_that_are_gone_come_again(
    emu: Emulator, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    """What a disk does not give back costs as much as was lost, not the command."""
    served = serve(emu)
    emu.fault(FILE_GLOB, method="GET", skip=4, status=500, times=0)
    with pytest.raises(Unavailable):
        folder(tmp_path, sources).provision([served.wanted()])
    emu.control("DELETE", "/faults")
    read, damaged = os.pread, iter([True])

    def refuse_once(descriptor: int, count: int, offset: int) -> bytes:
        if next(damaged, False):
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, count, offset)

    if how == "unreadable":
        monkeypatch.setattr(os, "pread", refuse_once)
    else:
        os.truncate(tmp_path / partial_path(PATH), PIECE)

    (answer,) = folder(tmp_path, sources).provision([served.wanted()])

    assert sha256(tmp_path / PATH) == served.sha256
    assert answer["fetched_bytes"] < served.size_bytes
