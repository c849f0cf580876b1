"""A network volume as a bucket: keys are file paths, and what a worker writes is an object at once.

No HTTP here. Blocking: callers use threads.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emulator.s3.errors import S3Error, no_such_key

UPLOADS = ".s3compat_uploads"
"""Hidden folder on the volume that holds parts and files on their way."""
READ_BYTES = 2 << 20

_etags: dict[tuple[str, int, int, int], str] = {}
"""(path, size, mtime in ns, inode) → ETag without quotes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One object. A directory is an object of size 0 whose key ends in a slash."""

    key: str
    size: int
    modified: float
    path: Path

    @property
    def etag(self) -> str:
        """The ETag without quotes: as uploaded, or the MD5 of the file, computed now and remembered."""
        if self.path.is_dir():
            return hashlib.md5(usedforsecurity=False).hexdigest()
        stamp = _stamp(self.path)
        if stamp not in _etags:
            _etags[stamp] = _md5(self.path)
        return _etags[stamp]


class Volume:
    """The folder of one network volume."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Turn a key into a path on the volume.

        Raises:
            S3Error: the key leaves the volume, or is one of the hidden ones.
        """
        parts = key.removesuffix("/").split("/")
        if not key or "\0" in key or any(part in ("", ".", "..") for part in parts):
            raise S3Error(400, "InvalidArgument", f"The key is not a path inside the volume: {key!r}")
        if parts[0] == UPLOADS:
            raise S3Error(403, "AccessDenied", f"Access Denied: {UPLOADS} is not for clients")
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise S3Error(403, "AccessDenied", f"Access Denied: {key!r} leads out of the volume")
        return path

    def get(self, key: str) -> Stored:
        """Return an object.

        Raises:
            S3Error: there is no such file; a directory is only found with its slash.
        """
        path = self.path(key)
        if path.is_dir() != key.endswith("/") or not path.exists():
            raise no_such_key(key)
        return _stored(key, path)

    def aside(self) -> Path:
        """Return a new path for a file on its way."""
        folder = self.root / UPLOADS
        folder.mkdir(exist_ok=True)
        return folder / f"{uuid.uuid4().hex}.part"

    def publish(self, aside: Path, key: str, etag: str) -> Stored:
        """Move a complete file to its key.

        Raises:
            S3Error: a part of the path is a file, or the path is a directory.
        """
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.replace(path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            message = f"A file and a directory can not have the same name: {key!r}"
            raise S3Error(400, "InvalidArgument", message) from None
        _etags[_stamp(path)] = etag
        return _stored(key, path)

    def make_folder(self, key: str) -> Stored:
        """Make a directory for a key that ends in a slash."""
        path = self.path(key)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            message = f"A file and a directory can not have the same name: {key!r}"
            raise S3Error(400, "InvalidArgument", message) from None
        return _stored(key, path)

    def delete(self, key: str) -> None:
        """Delete a file, or a directory if it is empty; what is not there is no failure."""
        path = self.path(key)
        if key.endswith("/"):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        elif path.is_file() or path.is_symlink():
            path.unlink()

    def objects(self, prefix: str = "") -> list[Stored]:
        """List files and empty directories whose key begins with a prefix, sorted as S3 does, by UTF-8."""
        start = prefix.rpartition("/")[0]
        top = self.root / start if start else self.root
        if ".." in prefix.split("/") or not top.is_dir():
            return []
        found = [one for one in self._walk(top, f"{start}/" if start else "") if one.key.startswith(prefix)]
        return sorted(found, key=lambda one: os.fsencode(one.key))

    def _walk(self, folder: Path, prefix: str) -> Iterator[Stored]:
        empty = True
        for entry in os.scandir(folder):
            key = prefix + entry.name
            if key == UPLOADS:
                continue
            empty = False
            # A link to a folder may lead out of the volume, or round in a circle.
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), f"{key}/")
            elif entry.is_file():
                info = entry.stat()
                yield Stored(key, info.st_size, info.st_mtime, Path(entry.path))
        if empty and prefix:
            yield _stored(prefix, folder)

    def used_bytes(self) -> int:
        """Add up all files, those on their way included."""
        return sum(
            os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118 - a Path for each of 20,000 files is slow
            for where, _, names in os.walk(self.root)
            for name in names
        )


def _stored(key: str, path: Path) -> Stored:
    info = path.stat()
    return Stored(key, 0 if path.is_dir() else info.st_size, info.st_mtime, path)


def _stamp(path: Path) -> tuple[str, int, int, int]:
    info = path.stat()
    return str(path), info.st_size, info.st_mtime_ns, info.st_ino


def _md5(path: Path) -> str:
    hasher = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            hasher.update(data)
    return hasher.hexdigest()
