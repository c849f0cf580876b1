"""A file is there complete under its name, or the one before it is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from backend.flow.atomic_file import AtomicFile, write_atomically


def test_what_fails_half_way_leaves_the_file_before_it(tmp_path: Path):
    """An exception, or no commit, and neither the old file nor the folder has changed."""
    place = tmp_path / "a.json"
    write_atomically(place, b"old")

    def fail() -> None:
        with AtomicFile(place) as out:
            out.file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with AtomicFile(place) as out:
        out.file.write(b"not committed")

    assert place.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_name_appears_with_the_commit(tmp_path: Path):
    """Until then a reader finds nothing under it; the folder is created."""
    place = tmp_path / "new" / "a.bin"

    with AtomicFile(place) as out:
        out.file.write(b"whole")
        assert not place.exists()
        out.commit()

    assert place.read_bytes() == b"whole"
    assert [path.name for path in place.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o600), (0o644, 0o644), (None, None)])
def test_permissions_are_what_was_asked_for(tmp_path: Path, mode: int | None, expected: int | None):
    """A mode, a file to copy it from, or those of every new file."""
    ordinary = tmp_path / "ordinary"
    ordinary.touch()

    write_atomically(tmp_path / "a", b"x", mode=mode)
    write_atomically(tmp_path / "b", b"x", mode=tmp_path / "a")

    required = expected if expected is not None else stat.S_IMODE(ordinary.stat().st_mode)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == required
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == required


@pytest.mark.parametrize("name", ["x" * 255, "🦊" * 63, "图" * 85])
def test_the_longest_names_can_be_written(tmp_path: Path, name: str):
    """A name that the disk takes is taken, though the file is written beside it first."""
    write_atomically(tmp_path / name, b"x")

    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_disk_that_refuses_raises_its_own_error(tmp_path: Path):
    """A file in the place of a folder, or a folder in the place of the file: the system's own error."""
    (tmp_path / "file").touch()

    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file" / "a", b"x")
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "folder", b"x")

    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}
