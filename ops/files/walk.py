"""List the files of a folder, links followed, without walking in circles."""

import errno
import heapq
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from backend.validation.printable import visible

OnError = Callable[[str, OSError], object]
"""Told of what cannot be read, by its path below the root."""


class Found(NamedTuple):
    """A file: its path below the folder, POSIX, what the system says of it, whether its name is a link."""

    path: str
    stat: os.stat_result
    link: bool = False


def walk(root: Path, *, on_error: OnError = lambda _path, _error: None) -> Iterator[Found]:
    """List files below a folder, in no particular order; see `folders`. Pipes and sockets are left out.

    A name that is not UTF-8 is told as an error: jobs, buckets and records know none.
    """

    def told(path: str, error: OSError) -> None:
        on_error(visible(path), error)

    for prefix, files in folders(root, on_error=told):
        for entry in files:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            try:
                stat = entry.stat()
                path.encode()
            except FileNotFoundError as error:
                told(path, FileNotFoundError(_dangling(entry.path)) if entry.is_symlink() else error)
            except OSError as error:
                told(path, error)
            except UnicodeEncodeError:
                told(path, OSError(errno.EILSEQ, "its name is not UTF-8"))
            else:
                if S_ISREG(stat.st_mode):
                    yield Found(path, stat, entry.is_symlink())


def folders(
    root: Path, *, apart: bool = False, on_error: OnError = lambda _path, _error: None
) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """List a folder and those below it, each with its files, not yet looked at, in no particular order.

    A folder is entered once, under its own name where it has one below the root, else
    under that of the first link to it; so links lead nowhere in circles. A name that is
    not UTF-8 is carried as Python does (surrogate escapes) and survives.

    Args:
        root: where to start; one that is not there has no files.
        apart: take each folder right below the root for itself: what several of them link to is
            entered once in each.
        on_error: see `OnError`.
    """
    seen: set[tuple[str, int, int]] = set()
    todo: list[tuple[str, str]] = [("", os.fspath(root))]
    linked: list[tuple[str, str]] = []
    while todo or linked:
        prefix, folder = todo.pop() if todo else heapq.heappop(linked)
        try:
            status = os.stat(folder)  # noqa: PTH116 - a Path a folder is felt in large trees
            own = (prefix.partition("/")[0] if apart else "", status.st_dev, status.st_ino)
            if own in seen or ("", *own[1:]) in seen:
                continue
            seen.add(own)
            entries = os.scandir(folder)
        except FileNotFoundError:
            if os.path.islink(folder):  # noqa: PTH114
                on_error(prefix or ".", FileNotFoundError(_dangling(folder)))
            continue
        except OSError as error:
            on_error(prefix or ".", error)
            continue
        files: list[os.DirEntry[str]] = []
        with entries:
            for entry in entries:
                try:
                    if not entry.is_dir():
                        files.append(entry)
                        continue
                except OSError as error:
                    on_error(f"{prefix}/{entry.name}" if prefix else entry.name, error)
                    continue
                below = (f"{prefix}/{entry.name}" if prefix else entry.name, entry.path)
                if entry.is_symlink():
                    heapq.heappush(linked, below)
                else:
                    todo.append(below)
        yield prefix, files


def _dangling(link: str) -> str:
    """Say where a link leads that leads nowhere."""
    try:
        return f"it is a link to {visible(os.readlink(link))}, which does not exist here"  # noqa: PTH115
    except OSError:
        return "it is a broken link"
