"""Archives of folders: packed the same way each time, opened by the name's ending.

Compression is zstd where the machine can do it, because unpacking is a cold start's largest part: the
program ``zstd``. Otherwise gzip, which Python can always read.
"""

import contextlib
import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final

from backend.errors import NotSupported, TransferError
from worker.runtime.bootstrap import HashedFile, gunzip

ZSTD: Final = ".tar.zst"
GZIP: Final = ".tar.gz"
LEVEL: Final = 3
"""Of zstd: higher levels save a tenth of the bytes for twenty times the time."""


def best_ending() -> str:
    """Return the ending of archives that this machine packs."""
    return ZSTD if _has_zstd() else GZIP


def can_open(name: str) -> bool:
    """Tell whether this machine can read an archive."""
    return name.endswith(GZIP) or (name.endswith(ZSTD) and _has_zstd())


def opener(name: str) -> Callable[[HashedFile], AbstractContextManager[Any]]:
    """Return what opens an archive as a plain tar.

    Raises:
        NotSupported: the ending is unknown, or zstd was not found.
    """
    if name.endswith(GZIP):
        return gunzip
    if not name.endswith(ZSTD):
        raise NotSupported(f"{name}: unknown kind of archive, expected {GZIP} or {ZSTD}.")
    if _has_zstd():
        return _unzstd
    raise NotSupported(
        f"{name} cannot be read: the program zstd was not found.",
        hint="Use a base image with zstd, or build the environment on one without it.",
    )


def write(folder: Path, file: IO[bytes], ending: str) -> None:
    """Write a folder's files and links to an open archive: sorted, without times and owners.

    Raises:
        TransferError: the compressor failed, as on a full disk.
    """
    with _compressor(file, ending) as stream, tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20) as tar:
        for path, relative in _paths(folder):
            member = tar.gettarinfo(str(path), relative)
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
            if member.isreg():
                with path.open("rb") as content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)


def digest(path: Path) -> str:
    """Hash a file that was just written: what the volume gives back counts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _paths(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield files and links below a folder, with their relative names, sorted; hard links as files."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*files, *linked]):
            path = Path(parent, name)
            yield path, path.relative_to(folder).as_posix()


def _has_zstd() -> bool:
    return shutil.which("zstd") is not None


@contextlib.contextmanager
def _compressor(file: IO[bytes], ending: str) -> Iterator[Any]:
    """Open a stream whose bytes arrive in the file, compressed."""
    if ending == GZIP:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as stream:
            yield stream
    else:
        file.flush()
        command = ["zstd", "--quiet", f"-{LEVEL}", "-T0", "--stdout"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE) as child:
            try:
                with contextlib.suppress(BrokenPipeError):
                    yield child.stdin
            finally:
                _, message = child.communicate()
        if child.returncode:
            raise TransferError(f"zstd failed: {message.decode(errors='replace').strip()}")


@contextlib.contextmanager
def _unzstd(source: HashedFile) -> Iterator[Any]:
    """Unpack in a second process, while this one hashes and writes."""
    with subprocess.Popen(
        ["zstd", "--quiet", "--decompress", "--stdout"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        feeder = threading.Thread(target=_feed, args=(source, child.stdin))
        feeder.start()
        try:
            yield child.stdout
        except BaseException:
            child.kill()
            raise
        else:
            while child.stdout is not None and child.stdout.read(1 << 20):
                pass
        finally:
            feeder.join()
    if child.returncode:
        raise OSError("zstd could not read the archive")


def _feed(source: HashedFile, target: IO[bytes]) -> None:
    with contextlib.suppress(OSError), target:
        while data := source.read(1 << 20):
            target.write(data)
