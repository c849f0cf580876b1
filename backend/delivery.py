"""Put what a job made where it is wanted."""

from collections.abc import Callable, Sequence
from pathlib import Path

from backend.errors import Unavailable
from backend.flow import Flow, Progress
from backend.places import places, suffix_warning
from backend.result import GeneratedFile

Fetch = Callable[[int, Path | None], Flow[GeneratedFile]]


def deliver(
    names: Sequence[str], output_path: Path | None, fetch: Fetch
) -> Flow[tuple[tuple[GeneratedFile, ...], tuple[str, ...]]]:
    """Fetch every file to its place, and give the files and what is not quite as asked.

    Yields ``{"progress": "fetch", "filename"}`` for each.

    Args:
        names: what the files are called.
        output_path: where the first goes, or the folder of all; None to leave them where they lie.
        fetch: number of a file and its place, or None → that file.
    """
    targets = [None] * len(names) if output_path is None else places(output_path, names)
    files, warnings = [], []
    for number, (name, place) in enumerate(zip(names, targets, strict=True)):
        if place is not None:
            yield Progress({"progress": "fetch", "filename": name})
            if warning := suffix_warning(place, name):
                warnings.append(warning)
        try:
            files.append((yield from fetch(number, place)))
        except Unavailable as error:
            error.sent = True  # the job was: it is not to be given to another backend
            raise
    return tuple(files), tuple(warnings)
