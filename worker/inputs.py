"""Files that a job brings along, put where ComfyUI reads them, and taken away after the job.

A file arrives as base64, from an https URL, or lies on the volume already;
where its sha256 is known it is checked before anything runs.
"""

import base64
import binascii
import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from backend.contract import INPUTS_FOLDER, OUTPUTS_FOLDER, SHARED_INPUTS, InputFile
from backend.errors import HashMismatch, InvalidArgument, SourceMissing
from worker.fetch import fetch
from worker.paths import place
from worker.stop import StopSign

READABLE: Final = (INPUTS_FOLDER, OUTPUTS_FOLDER, *SHARED_INPUTS)
"""Folders of the volume that a job may take inputs from: its own, and results of earlier jobs."""
WAYS: Final = ("data", "url", "volume_path")


@contextlib.contextmanager
def placed(
    files: Sequence[InputFile],
    *,
    input_folder: Path,
    volume: Path,
    allow_hosts: Sequence[str],
    stop: StopSign,
) -> Iterator[list[str]]:
    """Put a job's files under ComfyUI's inputs, for as long as the job runs.

    Args:
        files: from the job.
        input_folder: ComfyUI's.
        volume: the volume's root, for files that lie there.
        allow_hosts: hosts that URLs may name although they are private or plain http.
        stop: ends a download.

    Yields:
        Their names, as graphs use them.

    Raises:
        InvalidArgument: a name, a way or a URL is refused, or the base64 is broken.
        SourceMissing: there is no such file on the volume, or at the URL.
        HashMismatch: the bytes are others than the job says.
    """
    with contextlib.ExitStack() as undo:
        names = []
        for file in files:
            name, way = _checked(file)
            path = place(input_folder, name, "The input's name")
            path.parent.mkdir(parents=True, exist_ok=True)
            undo.callback(path.unlink, missing_ok=True)
            path.unlink(missing_ok=True)
            actual: str | None
            match way:
                case "data":
                    actual = _decode(str(file["data"]), path, name)
                case "url":
                    actual = fetch(str(file["url"]), path, allow_hosts, stop)
                case _:
                    actual = _link(str(file["volume_path"]), path, volume, hashed="sha256" in file, stop=stop)
            _compare(name, actual, file.get("sha256"))
            names.append(name)
        yield names


def _checked(file: Mapping[str, Any]) -> tuple[str, str]:
    """Give an entry's name and the way it comes, which must be one."""
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
    """Write base64, also in a data URI, to a file, and give the sha256 of its bytes."""
    # Clients paste what browsers give them: data:image/png;base64,iVBOR…
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        content = base64.b64decode("".join(payload.split()), validate=True)
    except binascii.Error as error:
        raise InvalidArgument(f"Input {name!r} is not valid base64: {error}.") from error
    if not content:
        raise InvalidArgument(f"Input {name!r} is empty.")
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _link(volume_path: str, path: Path, volume: Path, *, hashed: bool, stop: StopSign) -> str | None:
    """Make an input lead to a file of the volume, and give its sha256 where it is asked for."""
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
    if expected is not None and actual is not None and actual != expected:
        raise HashMismatch(
            f"Input {name!r} has other bytes than were announced (sha256 {actual}, announced {expected}).",
            path=name,
            expected=str(expected),
            actual=actual,
            hint="Send it again.",
        )
