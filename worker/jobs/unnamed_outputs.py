"""Files that a run wrote into ComfyUI's output folder without naming them in its history.

Node packs for meshes, captions and data do that. The worker owns the folder and empties it
between runs, so whatever lies there after a run belongs to that run.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from backend.comfyui.responses import view_query
from backend.files.deliver import Delivered
from backend.files.output_paths import within
from backend.validation.printable import quoted
from backend.verbs.media_kind import kind_of
from backend.verbs.result import GeneratedFile

MAX_FILES: Final = 1000
"""More entries would fill the job's answer, which RunPod then refuses."""
MAX_NAMES_SHOWN: Final = 10
_ANIMATIONS: Final = (".gif", ".webp")


def add_unnamed(delivered: Delivered, *, output: Path, results: Path) -> Delivered:
    """Move the unnamed files to the job's results, and add them with a warning.

    Args:
        delivered: what history names.
        output: ComfyUI's output folder, empty before the run.
        results: the folder of the files that history names, in the same file system.
    """
    unnamed = list(_unnamed(output, _named(delivered.files)))
    if not unnamed:
        return delivered
    present = [file.local_path.name for file in delivered.files if file.local_path]
    names = [path.name for path in unnamed[:MAX_FILES]]
    places = within(results, [*present, *names])[len(present) :]
    files, warnings = [], []
    for path, place in zip(unnamed, places, strict=False):
        try:
            path.replace(place)
        except OSError as error:
            warnings.append(f"{quoted(path.name)} could not be delivered: {error.strerror}.")
        else:
            files.append(GeneratedFile(type=kind_of(place.name), filename=place.name, local_path=place))
    if files:
        shown = ", ".join(quoted(file.filename) for file in files[:MAX_NAMES_SHOWN])
        more = f" and {len(files) - MAX_NAMES_SHOWN} more" if len(files) > MAX_NAMES_SHOWN else ""
        warnings.insert(
            0, f"The run also wrote files that ComfyUI's history does not name; added: {shown}{more}."
        )
    if len(unnamed) > MAX_FILES:
        warnings.append(f"{len(unnamed) - MAX_FILES} more of these files were left out.")
    return replace(delivered, files=(*delivered.files, *files), warnings=(*delivered.warnings, *warnings))


def is_unnamed(file: GeneratedFile) -> bool:
    """Whether `add_unnamed` added this file: ComfyUI has no name for it, and it is not a text."""
    return file.origin_path is None and file.text is None


def _named(files: Iterable[GeneratedFile]) -> set[Path]:
    """Paths of named files, relative to the output folder."""
    queries = [view_query(file.origin_path) for file in files if file.origin_path]
    return {
        Path(os.path.normpath(Path(str(query["subfolder"]), str(query["filename"]))))
        for query in queries
        if query["type"] == "output"
    }


def _companions(named: Iterable[Path]) -> Iterator[Path]:
    """Files that belong to a video: its first frame, and the silent one beside the one with sound.

    Source: VHS_VideoCombine writes ``x.png``, ``x.mp4`` and ``x-audio.mp4``, and names the last
        (facts: comfyui.md 5).
    """
    for path in named:
        if kind_of(path.name) == "video" or path.suffix in _ANIMATIONS:
            stem = path.stem.removesuffix("-audio")
            yield path.with_name(f"{stem}.png")
            yield path.with_name(f"{stem}{path.suffix}")


def _unnamed(output: Path, named: set[Path]) -> Iterator[Path]:
    """Regular files with content, in the order of their names; links and hidden files are left out.

    A link could lead to a file that the job may not read.
    """
    known = {*named, *_companions(named)}
    for folder, folders, names in os.walk(output):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.relative_to(output) in known:
                continue
            try:
                status = path.lstat()
            except OSError:  # a node that still works deleted its temporary file
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size:
                yield path
