"""How the files of a request travel to a worker: inside the job, over the volume, or by their address."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from backend.comfyui.inputs import clean_name
from backend.contract import INPUTS_FOLDER, RUN_LIMIT_BYTES, InputFile
from backend.errors import InvalidArgument
from backend.files.volume_s3 import VolumeS3
from backend.flow import Flow, Progress, work
from backend.validation.checks import data_address_bytes, is_address, media_suffix
from backend.verbs import transcripts
from backend.verbs.params import InputLike
from backend.verbs.request import Request
from backend.verbs.result import GeneratedFile
from backend.verbs.workflow import renamed

ROOM_BYTES: Final = RUN_LIMIT_BYTES - 250_000
"""What all inline files of a job may take as base64; the rest is for the other arguments."""
FOLDER: Final = "comfyform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A request as it travels: its arguments as JSON, and the files beside them."""

    params: dict[str, Any]
    inputs: list[InputFile]


@dataclass(slots=True)
class _File:
    """A file that has to travel: one of this machine, or bytes in memory."""

    path: Path | bytes
    name: str
    sha256: str
    size_bytes: int

    @property
    def inline_bytes(self) -> int:
        return 4 * ((self.size_bytes + 2) // 3)


def pack(request: Request, origin: str, volume: VolumeS3 | None) -> Flow[Packed]:
    """Turn a request into what a job brings along. The same file travels once.

    Args:
        request: checked.
        origin: names the endpoint, to know files of its own volume.
        volume: the volume over S3, if the settings name it.

    Raises:
        InvalidArgument: the files are too large; it names limit, size and ways out.
    """
    params = {name: value for name, value in request.given.items() if request.params[name].what != "inputs"}
    values: dict[str, InputLike] = dict(_inputs(request))
    names: dict[str, str] = {}
    inputs: dict[str, InputFile] = {}
    files: dict[str, _File] = {}
    for key, value in values.items():
        way = _way(value, origin)
        if isinstance(way, Path | tuple):
            file = yield from work(partial(_looked_at, way))
            names[key] = file.name
            files[file.name] = file
        elif isinstance(way, str):
            names[key] = way
        else:
            names[key] = way["name"]
            inputs[way["name"]] = way
    for file in sorted(files.values(), key=lambda file: file.size_bytes):
        room = ROOM_BYTES - sum(len(entry.get("data", "")) for entry in inputs.values())
        inputs[file.name] = yield from _sent(file, room, volume)
    if request.verb == "workflow":
        params["graph"] = renamed(request["graph"], names)
    else:
        params |= names
    if transcripts.is_missing(request):
        text = yield from work(lambda: transcripts.read_beside(values["voice_reference"]))
        params |= {"voice_reference_text": text} if text else {}
    return Packed(params=params, inputs=list(inputs.values()))


def _inputs(request: Request) -> Iterator[tuple[str, InputLike]]:
    for name, spec in request.params.items():
        if spec.what == "input" and request[name] is not None:
            yield name, request[name]
        elif spec.what == "inputs":
            yield from (request[name] or {}).items()


def _way(value: InputLike, origin: str) -> InputFile | Path | tuple[str, bytes] | str:
    """Choose how a file travels: an entry of the job, a file to send, or a name that the worker knows."""
    if isinstance(value, GeneratedFile):
        return _way_of_result(value, origin)
    if isinstance(value, Path):
        return value
    name = str(value)
    if name[:5].lower() == "data:":
        return data_address_bytes(name)
    return _by_address(name) if is_address(name) else name


def _way_of_result(file: GeneratedFile, origin: str) -> InputFile | Path:
    """A file of an earlier result does not travel where it lies on the volume already."""
    name = f"{FOLDER}/{(file.sha256 or '')[:16]}_{clean_name(file.filename)}"
    if file.origin == origin and file.origin_path:
        return {"name": name, "volume_path": file.origin_path}
    if file.local_path is not None and file.local_path.is_file():
        return file.local_path
    address = file.signed_url or file.remote_url
    if address and address.startswith("https://"):
        return _by_address(address)
    raise InvalidArgument(
        f"{file.filename} is at {file.origin or 'an unknown place'}, where a worker cannot fetch it.",
        hint="Pass output_path to the call that generates it.",
    )


def _by_address(url: str) -> InputFile:
    filename = clean_name(unquote(urlsplit(url).path.rpartition("/")[2])) or "input"
    return {"name": f"{FOLDER}/{hashlib.sha256(url.encode()).hexdigest()[:16]}_{filename}", "url": url}


def _looked_at(path: Path | tuple[str, bytes]) -> _File:
    if isinstance(path, tuple):
        media_type, content = path
        sha256 = hashlib.sha256(content).hexdigest()
        name = f"{FOLDER}/{sha256[:16]}_input{media_suffix(media_type)}"
        return _File(path=content, name=name, sha256=sha256, size_bytes=len(content))
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    name = f"{FOLDER}/{sha256[:16]}_{clean_name(path.name)}"
    return _File(path=path, name=name, sha256=sha256, size_bytes=path.stat().st_size)


def _sent(file: _File, room: int, volume: VolumeS3 | None) -> Flow[InputFile]:
    """Send one file: inside the job where there is room, else over the volume."""
    if file.inline_bytes <= room:
        source = file.path
        content = source if isinstance(source, bytes) else (yield from work(source.read_bytes))
        data = yield from work(lambda: base64.b64encode(content).decode())
        return {"name": file.name, "sha256": file.sha256, "data": data}
    if volume is None or isinstance(file.path, bytes):
        what = "The data: URI" if isinstance(file.path, bytes) else file.path
        raise InvalidArgument(
            f"{what} is {file.inline_bytes / 1e6:.1f} MB as base64, and {max(room, 0) / 1e6:.1f} MB "
            f"are left in a RunPod job (of {RUN_LIMIT_BYTES / 1e6:.0f} MB).",
            hint="Set RUNPOD_VOLUME_ID and the RUNPOD_S3_… keys to send it over the volume, "
            "give an https:// address instead, or make it smaller.",
        )
    path = f"{INPUTS_FOLDER}/{file.name.rpartition('/')[2]}"
    if (yield from volume.size_of(path)) != file.size_bytes:
        yield Progress({"progress": "upload", "path": path, "size_bytes": file.size_bytes})
        yield from volume.put(file.path, path, size_bytes=file.size_bytes, sha256=file.sha256)
    return {"name": file.name, "sha256": file.sha256, "volume_path": path}
