"""List the model files of a directory: every name once, links and cached blobs as what they are."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.files.walk import Found, walk
from ops.models.other_places import OTHER_PLACES, belongs_at
from ops.models.volume_layout import HF_HUB, MODELS, REPLACED, blob_repository, is_model_file

_FOLDERS: Final = (MODELS, HF_HUB, REPLACED)
_Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Listed:
    """A name of a file.

    Attributes:
        path: from the volume root.
        stat: of the bytes, links followed.
        link: where the bytes lie, where this name is only another one for them; see
            ``backend.contract.FileRecord``.
    """

    path: str
    stat: os.stat_result
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a volume holds: model files, those in other places of a pod, and what could not be read."""

    files: tuple[Listed, ...]
    elsewhere: tuple[Listed, ...]
    warnings: tuple[str, ...]


def list_files(root: Path) -> Listing:
    """List the model files of a volume, with the cached blobs that no snapshot refers to."""
    warnings: list[str] = []
    found = [one for folder in _FOLDERS for one in _walk(root, folder, warnings.append)]
    names: dict[_Inode, str] = {}
    for one in sorted(found):
        if not one.link:
            names.setdefault(_inode(one), one.path)
    linked = {_inode(one) for one in found if one.link or not blob_repository(one.path)}
    files = []
    for one in found:
        blob = blob_repository(one.path) is not None
        if (blob and _inode(one) in linked) or not (blob or _is_listed(one.path)):
            continue
        at = names.get(_inode(one)) or _target(root, one.path)
        files.append(Listed(one.path, one.stat, None if at == one.path else at))
    elsewhere = [Listed(one.path, one.stat) for one in _in_other_places(root) if _inode(one) not in names]
    return Listing(tuple(files), tuple(elsewhere), tuple(warnings))


def list_elsewhere(root: Path) -> list[Listed]:
    """List the model files in other places of a pod that no name of a model file leads to."""
    found = list(_in_other_places(root))
    if not found:
        return []
    names = {_inode(one) for folder in _FOLDERS for one in _walk(root, folder, lambda _: None)}
    return [Listed(one.path, one.stat) for one in found if _inode(one) not in names]


def _in_other_places(root: Path) -> Iterator[Found]:
    for place in OTHER_PLACES:
        for one in _walk(root, place, lambda _: None):
            if belongs_at(one.path) and not one.link:
                yield one


def has_link(root: Path, blob: Path) -> bool:
    """Tell whether a name among the model files still leads to a cached blob."""
    stat = blob.stat()
    return any(
        one.link and _inode(one) == (stat.st_dev, stat.st_ino)
        for folder in (MODELS, HF_HUB)
        for one in _walk(root, folder, lambda _: None)
    )


def _walk(root: Path, folder: str, warn: Callable[[str], object]) -> Iterator[Found]:
    """List the files of a folder, by their path from the root."""

    def refused(path: str, error: OSError) -> None:
        place = folder if path == "." else f"{folder}/{path}"
        warn(f"{place} cannot be read: {error.strerror or error}")

    for one in walk(root / folder, on_error=refused):
        yield one._replace(path=f"{folder}/{one.path}")


def _is_listed(path: str) -> bool:
    return is_model_file(path) or path.startswith(f"{REPLACED}/")


def _inode(one: Found) -> _Inode:
    return one.stat.st_dev, one.stat.st_ino


def _target(root: Path, path: str) -> str:
    """Return where a link leads: from the root, or absolute where it leaves the volume."""
    real = (root / path).resolve()
    return real.relative_to(root.resolve()).as_posix() if real.is_relative_to(root.resolve()) else str(real)
