"""List the files of a folder, links followed, without walking in circles."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple


class Found(NamedTuple):
    """A file: its path below the folder, POSIX, and what the system says of it."""

    path: str
    stat: os.stat_result


def walk(
    root: Path,
    *,
    wanted: Callable[[str], bool] = lambda _path: True,
    on_error: Callable[[str, OSError], object] = lambda _path, _error: None,
) -> Iterator[Found]:
    """List files below a folder, in no particular order.

    A folder that a link leads back to is entered once. A name that is not UTF-8
    is carried as Python does (surrogate escapes) and survives.

    Args:
        root: where to start; one that is not there has no files.
        wanted: asked for each file's path below root; others are neither listed nor looked at.
        on_error: told of what cannot be read, by its path below root.
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
        with entries:
            for entry in entries:
                path = f"{prefix}/{entry.name}" if prefix else entry.name
                try:
                    if entry.is_dir():
                        todo.append((entry.path, path))
                    elif wanted(path):
                        yield Found(path, entry.stat())
                except OSError as error:
                    on_error(path, error)
