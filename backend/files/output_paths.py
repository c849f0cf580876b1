"""Where results go on this machine. Pure, but for looking whether a folder is there."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from backend.errors import InvalidArgument
from backend.validation.printable import quoted
from backend.verbs.media_kind import kind_of

ROOM_BYTES: Final = 16 * 1024 * 1024
"""What must be free on a disk; a video is smaller than that, a picture much smaller."""
MAX_FILE_NAME_BYTES: Final = 180
"""A numbered or temporary name beside it still has its 255 bytes."""
MAX_SUFFIX_BYTES: Final = 20


def places(output_path: Path, filenames: Sequence[str]) -> list[Path]:
    """Return each file its place.

    Args:
        output_path: a folder that exists, where files keep their names; else the first file's own
            place, from which further ones get ``-2``, ``-3`` before the suffix.
        filenames: as ComfyUI named them.
    """
    if output_path.is_dir():
        return within(output_path, filenames)
    places = []
    for number, name in enumerate(filenames, start=1):
        suffix = output_path.suffix if _same_kind(output_path.name, name) else Path(file_name(name)).suffix
        further = output_path.with_name(f"{output_path.stem}-{number}{suffix}")
        places.append(output_path if number == 1 else further)
    return places


def check_writable(output_path: Path) -> None:
    """See to it, before anything is paid for, that a result can be put here.

    Raises:
        InvalidArgument: it cannot; the message says which folder or file is in the way.
    """
    import shutil  # slow to load

    try:
        folder = output_path if output_path.is_dir() else output_path.parent
        there = next((path for path in (folder, *folder.absolute().parents) if os.path.lexists(path)), folder)
        is_folder = there.is_dir()
    except OSError as error:
        raise InvalidArgument(
            f"output_path {quoted(str(output_path))} cannot be checked: {error.strerror}.",
            hint="Nothing was sent. Choose another place.",
        ) from None
    if not is_folder:
        why = f"{there} is not a directory"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = f"{there} is not writable"
    elif shutil.disk_usage(there).free < ROOM_BYTES:
        why = f"the disk of {there} is full"
    else:
        return
    raise InvalidArgument(
        f"output_path {quoted(str(output_path))}: {why}.",
        hint="Nothing was sent. Choose another place.",
    )


def _same_kind(name: str, other: str) -> bool:
    return kind_of(name) == kind_of(other)


def within(folder: Path, filenames: Sequence[str]) -> list[Path]:
    """Return each file a place of its own in a folder: nodes may save into folders of their own."""
    return _apart(folder / file_name(name) for name in filenames)


def _apart(paths: Iterable[Path]) -> list[Path]:
    """Number the paths that would be one file, also on a disk that ignores case or normalizes letters."""
    import unicodedata

    taken: set[str] = set()
    result = []
    for path in paths:
        place, number = path, 1
        while (key := unicodedata.normalize("NFKC", str(place)).casefold()) in taken:
            number += 1
            place = path.with_name(f"{path.stem}-{number}{path.suffix}")
        taken.add(key)
        result.append(place)
    return result


def file_name(name: str) -> str:
    """A name from outside as a file name that every system takes: its last part, short, without controls."""
    from backend.validation.checks import path_problem  # loaded with the first result

    last = re.split(r"[/\\]", name)[-1]
    clean = "".join("_" if char in '<>:"|?*' or not char.isprintable() else char for char in last)
    stem, dot, suffix = clean.rpartition(".")
    if not stem or len(suffix.encode()) > MAX_SUFFIX_BYTES:
        stem, dot, suffix = clean, "", ""
    room = MAX_FILE_NAME_BYTES - len((dot + suffix).encode())
    stem = stem.encode()[:room].decode("utf-8", "ignore")
    result = f"{stem}{dot}{suffix}".rstrip(". ")
    return "output" if not result else f"_{result}" if path_problem(result) else result


def suffix_warning(place: Path, filename: str) -> str | None:
    """Say when a file's suffix promises another format than it holds."""
    wanted, real = place.suffix.lower(), Path(filename).suffix.lower()
    if not wanted or wanted == real or {wanted, real} == {".jpg", ".jpeg"}:
        return None
    return f"{place.name} holds {real.removeprefix('.').upper()}, whatever its suffix says."
