"""A file that is never half there under its own name: written aside, then renamed."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO, Self


class AtomicFile:
    """A file on its way, within a ``with``. Without `commit` it leaves nothing behind.

    Args:
        place: its path. The folder is created.
        fsync: whether its bytes reach the disk before its name does, so that a crash of the machine leaves
            the whole file or none. Off for what can be made again.
        mode: its permissions, or those of a file to copy them from; by default those of every new file.
    """

    def __init__(self, place: Path, *, fsync: bool = True, mode: int | Path | None = None) -> None:
        self._place = place
        self._fsync = fsync
        self._mode = mode
        # Forty characters are at most 160 bytes, so the name fits wherever the file's own does.
        self._aside = place.with_name(f".{place.name[:40]}.{os.urandom(4).hex()}.part")
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._aside.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        # Closing flushes once more, which fails again on a full disk; the reason is on its way already.
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        with contextlib.suppress(OSError):
            self._aside.unlink(missing_ok=True)

    @property
    def file(self) -> BinaryIO:
        """What to write to."""
        if self._file is None:
            raise RuntimeError("An atomic file is used within its `with`.")
        return self._file

    def commit(self) -> None:
        """Give the file its name."""
        file = self.file
        file.flush()
        if self._fsync:
            os.fsync(file.fileno())
        file.close()
        if isinstance(self._mode, Path):
            shutil.copymode(self._mode, self._aside)
        elif self._mode is not None:
            self._aside.chmod(self._mode)
        self._aside.replace(self._place)


def write_atomically(
    place: Path, content: bytes, *, fsync: bool = True, mode: int | Path | None = None
) -> None:
    """Write a small file that is there complete or not at all.

    Args:
        place, fsync, mode: as for `AtomicFile`.
        content: all of it.
    """
    with AtomicFile(place, fsync=fsync, mode=mode) as out:
        out.file.write(content)
        out.commit()
