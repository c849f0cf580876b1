"""The few things that must be done to a disk with care: whole files, one writer, room first."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from backend.errors import InvalidArgument, TransferError, VolumeFull
from backend.flow.atomic_file import write_atomically
from ops.threads.ordered_pool import pause

_LOCK_LOOK_S: Final = 0.05
"""How often to look whether another holder is done."""
_MAKE_ROOM: Final = "Make room on that disk; a network volume can be grown, or models removed from it."


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn the system's errors about a file into ours.

    Args:
        path: how to call it in the message.

    Raises:
        VolumeFull: no room, or the quota is used up.
        TransferError: any other refusal.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise VolumeFull(f"No space left for {path}.", path=path, hint=_MAKE_ROOM) from error
        reason = error.strerror or str(error)
        raise TransferError(f"{path} cannot be used: {reason}.", path=path) from error


def own_place(root: Path, path: str) -> Path:
    """Return the place of one of comfyform's files on a volume, where no link is on its way.

    Whoever writes the volume, a node pack for example, could otherwise have us write or delete elsewhere.

    Args:
        root: the volume's root, which may be reached through a link itself.
        path: from there.

    Raises:
        InvalidArgument: a folder on the way, or the file, is a link.
    """
    place = root / path
    if place.resolve() != root.resolve() / path:
        raise InvalidArgument(
            f"{path} leads out of {root} through a link, or elsewhere in it.",
            hint="Delete the link: nothing that comfyform keeps on a volume is one.",
        )
    return place


def write_whole(path: Path, content: bytes, *, like: Path | None = None) -> None:
    """Write a small file so that it is there complete or not at all, also after a crash.

    Args:
        path: its place.
        content: all of it.
        like: a file whose rights it gets; by default those of every new file.
    """
    try:
        _in_folder(path.parent, lambda: write_atomically(path, content, mode=like))
    except OSError as error:
        # Whoever reads this knows the file, not the one beside it.
        error.filename, error.filename2 = os.fspath(path), None
        raise


def _in_folder(folder: Path, act: Callable[[], object]) -> None:
    """Do something in a folder, created again if it was just removed as empty."""
    for last in (False, True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            act()
            return
        except FileNotFoundError:
            if last:
                raise


def rewrite(path: Path, content: bytes) -> None:
    """Write a small file that belongs to a person: a link to it stays a link, and its rights stay.

    Raises:
        OSError: it cannot be written, or may not be.
    """
    real = path.resolve()
    if real.exists() and not os.access(real, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    write_whole(real, content, like=real if real.exists() else None)


def settle(aside: Path, final: Path) -> None:
    """Give a complete file its name: its bytes reach the disk first, then the name does."""
    descriptor = os.open(aside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _in_folder(final.parent, lambda: aside.replace(final))
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's names survive a crash, where the system can do that (Windows cannot)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_small(path: Path) -> bytes | None:
    """Read a small file; None if it does not exist."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextlib.contextmanager
def one_writer(lock: Path) -> Iterator[None]:
    """Let one holder in at a time, over all threads and processes that see this disk."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, thread_local=False)
    while True:
        with contextlib.suppress(Timeout):
            held.acquire(timeout=0)
            break
        pause(_LOCK_LOOK_S)
    try:
        yield
    finally:
        held.release()


def need_room(folder: Path, needed_bytes: int, *, path: str) -> None:
    """Refuse before the first byte what would not fit.

    Args:
        folder: on the disk in question.
        needed_bytes: still to be written.
        path: the file, for the message.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise VolumeFull(
            f"{path} needs {needed_bytes:,} more bytes; {free:,} are free in {folder}.",
            path=path,
            hint=_MAKE_ROOM,
        )


def remove_empty_folders(start: Path, stop: Path) -> None:
    """Remove a folder and those above it while they are empty, up to but without ``stop``."""
    folder = start
    while folder != stop and stop in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
