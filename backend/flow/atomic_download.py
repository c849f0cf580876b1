"""A file on its way to the disk: never half there under its own name."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from backend.errors import HashMismatch, TransferError, VolumeFull
from backend.flow.atomic_file import AtomicFile
from backend.flow.steps import Download, Downloaded
from backend.validation.printable import quoted


class Landing:
    """A file on its way: written aside, hashed as it comes, and renamed when it is whole."""

    def __init__(self, step: Download) -> None:
        import hashlib  # slow to load for a program that only asks; the journal of paid jobs has loaded it

        self._step = step
        self._hash = hashlib.sha256()
        self._size = 0
        with self._disk():
            self._out = AtomicFile(step.to)

    def check_type(self, content_type: str) -> None:
        """Refuse a web page, for example a login page, in place of a picture, video or sound.

        Raises:
            TransferError: it is one.
        """
        if self._step.media and content_type.lower().startswith("text/html"):
            raise TransferError(
                f"{self._step.what}: the server sent a web page instead.",
                path=str(self._step.to),
                hint="Check that the address is the right server's and needs no login.",
            )

    def __enter__(self) -> Self:
        with self._disk():
            self._out.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._out.__exit__()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        with self._disk():
            self._out.file.write(chunk)
        self._hash.update(chunk)
        self._size += len(chunk)

    def settle(self) -> Downloaded:
        """Check the bytes and give the file its name."""
        step, sha256 = self._step, self._hash.hexdigest()
        if step.media and not self._size:
            raise TransferError(f"{step.what} arrived empty.", path=str(step.to), hint="Nothing was written.")
        if step.sha256 is not None and step.sha256 != sha256:
            raise HashMismatch(
                f"{step.what} arrived damaged: its sha256 is {sha256}, not {step.sha256}.",
                path=str(step.to),
                expected=step.sha256,
                actual=sha256,
                hint="Nothing was written. Try again.",
            )
        with self._disk():
            self._out.commit()
        return Downloaded(size_bytes=self._size, sha256=sha256)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = VolumeFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else TransferError
            raise kind(
                f"{self._step.to} cannot be written: {error.strerror or error}.", path=str(self._step.to)
            ) from error
        except ValueError as error:  # a NUL in its name
            raise TransferError(f"{quoted(str(self._step.to))} cannot be written: {error}.") from error


def land(content: bytes, to: Path, *, sha256: str | None = None, what: str = "the file") -> Downloaded:
    """Write bytes that are already here, in the same way.

    Raises:
        HashMismatch: they are not what ``sha256`` says.
    """
    with Landing(Download(url="", to=to, sha256=sha256, what=what)) as landing:
        landing.write(content)
        return landing.settle()
