"""Files that a job brings along: gathered, put where ComfyUI reads them, and taken away after the job.

They are gathered before the job takes its turn at ComfyUI, because a slow address may take long.
A file arrives as base64, from an https URL, or lies on the volume already; where its sha256 is known it is
checked before anything runs.
"""

import base64
import contextlib
import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from backend.contract import INPUTS_FOLDER, OUTPUTS_FOLDER, SHARED_INPUTS, InputFile
from backend.errors import HashMismatch, InvalidArgument, SourceMissing
from ops.files.atomic import translated
from worker.jobs.cancellation import StopSign
from worker.jobs.fetch import fetch
from worker.jobs.paths import place

READABLE: Final = (INPUTS_FOLDER, OUTPUTS_FOLDER, *SHARED_INPUTS)
"""Folders of the volume that a job may take inputs from: its own, and results of earlier jobs."""
WAYS: Final = ("data", "url", "volume_path")


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file of a job that is here, checked, and not yet among ComfyUI's inputs."""

    name: str
    path: Path


@contextlib.contextmanager
def gathered(
    files: Sequence[InputFile],
    *,
    folder: Path,
    volume: Path,
    allow_hosts: Sequence[str],
    stop: StopSign,
    end: float = math.inf,
) -> Iterator[list[Arrived]]:
    """Fetch, decode and check a job's files. Other jobs may use ComfyUI meanwhile.

    Args:
        files: from the job.
        folder: where they are kept until they are placed, and removed from at the end.
        volume: the volume's root, for files that lie there.
        allow_hosts: hosts that URLs may name although they are private or plain http.
        stop: ends a download.
        end: when the job's time is over, by `time.monotonic`.

    Yields:
        The files, in order.

    Raises:
        InvalidArgument: a name, a way or a URL is refused, two names collide, or the base64 is broken.
        SourceMissing: the file is not on the volume or not at the URL.
        TransferError: a file could not be had, or not in time.
        HashMismatch: the bytes are others than the job says.
    """
    checked = [(file, *_checked(file)) for file in files]
    _refuse_collisions([name for _, name, _ in checked])
    with tempfile.TemporaryDirectory(prefix="inputs-", dir=folder, ignore_cleanup_errors=True) as aside:
        arrived = []
        for number, (file, name, way) in enumerate(checked):
            place(Path(aside), name, "The input's name")
            path = Path(aside) / f".{number}"
            actual: str | None
            with translated(name):
                match way:
                    case "data":
                        actual = _decode(str(file["data"]), path, name)
                    case "url":
                        actual = fetch(str(file["url"]), path, allow_hosts, stop, end=end)
                    case _:
                        hashed = file.get("sha256") is not None
                        actual = _link(str(file["volume_path"]), path, volume, hashed=hashed, stop=stop)
            _compare(name, actual, file.get("sha256"))
            arrived.append(Arrived(name, path))
        yield arrived


@contextlib.contextmanager
def placed(files: Sequence[Arrived], input_folder: Path) -> Iterator[list[str]]:
    """Put files under ComfyUI's inputs, for as long as the job runs.

    Yields:
        Their names, as graphs use them.

    Raises:
        InvalidArgument: a link on a name's way leads out of the folder.
        TransferError: a file cannot be placed.
    """
    with contextlib.ExitStack() as undo:
        for file in files:
            path = place(input_folder, file.name, "The input's name")
            with translated(file.name):
                path.parent.mkdir(parents=True, exist_ok=True)
                file.path.replace(path)
            undo.callback(path.unlink, missing_ok=True)
        yield [file.name for file in files]


def _refuse_collisions(names: Sequence[str]) -> None:
    """Refuse names of which only one could be placed: one twice, or a file where another needs a folder."""
    problems = [f"{name!r} twice" for name in sorted({name for name in names if names.count(name) > 1})]
    problems += [
        f"{str(folder)!r} and {name!r}, which needs a folder of that name"
        for name in sorted(set(names))
        for folder in PurePosixPath(name).parents
        if str(folder) in names
    ]
    if problems:
        raise InvalidArgument(
            f"The inputs cannot lie side by side: {'; '.join(problems)}.", hint="Give each a name of its own."
        )


def _checked(file: Mapping[str, Any]) -> tuple[str, str]:
    """Return an entry's name and the way it comes, which must be one."""
    name = file.get("name")
    if not isinstance(name, str):
        raise InvalidArgument("An input has no 'name'.", hint='Send {"name": "odin.png", "data": "…"}.')
    ways = [way for way in WAYS if isinstance(file.get(way), str)]
    if len(ways) != 1:
        raise InvalidArgument(f"Input {name!r} must have exactly one of {', '.join(WAYS)}, as text.")
    if name.split("/")[0] in SHARED_INPUTS:
        raise InvalidArgument(
            f"Input {name!r} would replace a file of the volume.",
            hint=f"Names in {' and '.join(SHARED_INPUTS)} are the volume's own: choose another name.",
        )
    return name, ways[0]


def _decode(text: str, path: Path, name: str) -> str:
    """Write base64, also in a data URI, to a file, and return the sha256 of its bytes."""
    # Clients paste what browsers give them, data:image/png;base64,iVBOR…, with and without its beginning.
    payload = text.partition(",")[2] if "," in text else text
    try:
        content = base64.b64decode("".join(payload.split()), validate=True)
    except ValueError as error:  # also for letters outside ASCII
        raise InvalidArgument(f"Input {name!r} is not valid base64: {error}.") from error
    if not content:
        raise InvalidArgument(f"Input {name!r} is empty.")
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _link(volume_path: str, path: Path, volume: Path, *, hashed: bool, stop: StopSign) -> str | None:
    """Make an input lead to a file of the volume, and return its sha256 where it is asked for."""
    source = place(volume, volume_path, "The input's volume_path")
    if volume_path.split("/", maxsplit=1)[0] not in READABLE:
        raise InvalidArgument(
            f"volume_path {volume_path!r} is refused: inputs come from {', '.join(READABLE)} only."
        )
    if not source.is_file():
        raise SourceMissing(
            f"{volume_path} is not on the volume.", hint="It may have been cleaned up: send it again."
        )
    path.symlink_to(source.resolve())
    if not hashed:
        return None
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            stop.check()
            digest.update(chunk)
    return digest.hexdigest()


def _compare(name: str, actual: str | None, expected: object) -> None:
    """Refuse bytes that are not those that the client sent."""
    if expected is not None and actual is not None and actual != str(expected).lower():
        raise HashMismatch(
            f"Input {name!r} has other bytes than were announced (sha256 {actual}, announced {expected}).",
            path=name,
            expected=str(expected),
            actual=actual,
            hint="Send it again.",
        )
