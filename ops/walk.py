"""List the files of a folder, links followed, without walking in circles."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

OnError = Callable[[str, OSError], object]
"""Told of what cannot be read, by its path below the root."""


class Found(NamedTuple):
    """A file: its path below the folder, POSIX, and what the system says of it."""

    path: str
    stat: os.stat_result


def walk(root: Path, *, on_error: OnError = lambda _path, _error: None) -> Iterator[Found]:
    """List files below a folder, in no particular order; see `folders`."""
    for prefix, files in folders(root, on_error=on_error):
        for entry in files:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            try:
                yield Found(path, entry.stat())
            except OSError as error:
                on_error(path, error)


def folders(
    root: Path, *, on_error: OnError = lambda _path, _error: None
) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """List a folder and those below it, each with its files, not yet looked at, in no particular order.

    A folder that a link leads back to is entered once. A name that is not UTF-8
    is carried as Python does (surrogate escapes) and survives.

    Args:
        root: where to start; one that is not there has no files.
        on_error: see `OnError`.
    """
    seen: set[tuple[int, int]] = set()
    todo: list[tuple[str, str]] = [(os.fspath(root), "")]
    while todo:
        folder, prefix = todo.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 - a Path a folder is felt in large trees
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = os.scandir(folder)
        except FileNotFoundError:
            if prefix:
                on_error(prefix, FileNotFoundError("it leads nowhere"))
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
                todo.append((entry.path, f"{prefix}/{entry.name}" if prefix else entry.name))
        yield prefix, files
