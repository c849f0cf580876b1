"""What a job answered, read into a result: every way a file can come, and every shape that workers use."""

import base64
import binascii
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from backend.comfyui_answers import kind_of
from backend.delivery import Delivered, deliver, journal_again
from backend.errors import HashMismatch, JobFailed, TransferError
from backend.flow import Download, Downloaded, Flow, download, work
from backend.landing import land
from backend.places import within
from backend.result import GeneratedFile, GenerationResult, Kind
from backend.s3 import VolumeS3


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A file of an answer: its bytes, or where they are."""

    filename: str
    type: Kind
    size_bytes: int | None = None
    sha256: str | None = None
    data: str | None = field(default=None, repr=False)
    url: str | None = None
    signed_url: str | None = None
    volume_path: str | None = None


def arrived(output: Mapping[str, Any]) -> list[Arrived]:
    """List the files of an answer.

    Besides our own form, reads that of the origin's handlers (``size``, ``encoding``) and of RunPod's
    worker-comfyui (``images: [{filename, type: base64 | s3_url, data}]``).
    """
    return [*_own(output.get("files")), *_foreign(output.get("images"))]


def is_here(result: GenerationResult, output_path: Path | None) -> bool:
    """Tell whether a result that was fetched before is still whole where it is wanted."""
    first = result.files[0].local_path if result.files else None
    wanted = output_path is None or output_path.is_dir() or first == output_path.absolute()
    return (
        result.success
        and wanted
        and all(file.local_path is None or _size(file.local_path) == file.size_bytes for file in result.files)
    )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def as_output(result: GenerationResult) -> dict[str, Any]:
    """Give a result that was written down in the form of a job's answer, to fetch its files once more."""
    files = [
        {**file.to_json(), "url": file.remote_url, "volume_path": file.origin_path} for file in result.files
    ]
    return {"files": files, "seed": result.seed, "prompt_id": result.prompt_id}


def _own(files: Any) -> Iterator[Arrived]:
    for file in files if isinstance(files, list) else ():
        name = str(file.get("filename") or "output")
        kind = file.get("type")
        yield Arrived(
            filename=name,
            type=kind if kind in ("image", "video", "audio", "text", "file") else kind_of(name),
            size_bytes=file.get("size_bytes") or file.get("size"),
            sha256=file.get("sha256"),
            data=file.get("data"),
            url=file.get("url"),
            signed_url=file.get("signed_url"),
            volume_path=file.get("volume_path"),
        )


def _foreign(images: Any) -> Iterator[Arrived]:
    for image in images if isinstance(images, list) else ():
        name = str(image.get("filename") or "output.png")
        inline = image.get("type") == "base64"
        yield Arrived(
            filename=name,
            type=kind_of(name),
            data=image.get("data") if inline else None,
            url=None if inline else image.get("data"),
        )


def collect(
    output: Mapping[str, Any],
    *,
    output_path: Path | None,
    spare_folder: Path,
    origin: str,
    volume: VolumeS3 | None,
    job_id: str,
) -> Flow[Delivered]:
    """Put the files of an answer where they are wanted.

    Args:
        output: the job's.
        output_path: where they are wanted, or None to leave each where it lies.
        spare_folder: where files go that came inside the answer and have no other place: RunPod forgets them.
        origin: names the endpoint whose volume holds the rest.
        volume: that volume over S3, if the settings name it.
        job_id: of the job, to name in errors.
    """
    found = arrived(output)
    if not found:
        raise JobFailed("The job ended well and gave no file.", job_id=job_id, output=output)
    spares = within(spare_folder, [file.filename for file in found])

    def fetch(number: int, place: Path | None) -> Flow[GeneratedFile]:
        file = found[number]
        to = place or (spares[number] if file.data is not None else None)
        got = (yield from _fetch(file, to, spares[number], volume)) if to is not None else None
        return _file(file, to, got, origin)

    left = [_file(file, None, None, origin) for file in found]
    return (yield from deliver(left, output_path, fetch, again=journal_again(job_id)))


def _fetch(file: Arrived, place: Path, spare: Path, volume: VolumeS3 | None) -> Flow[Downloaded]:
    if file.data is not None:
        return (yield from work(partial(_land, file, place, spare)))
    if address := file.signed_url or file.url:
        step = Download(url=address, to=place, sha256=file.sha256, what=file.filename, timeout_s=300.0)
        return (yield from download(step))
    if file.volume_path and volume is not None:
        return (yield from volume.get(file.volume_path, place, sha256=file.sha256))
    size = f"{file.size_bytes / 1e6:.1f} MB" if file.size_bytes else "its bytes"
    if file.volume_path:
        raise TransferError(
            f"{file.filename} ({size}) was too large for the job's answer; it lies on the volume "
            f"as {file.volume_path}.",
            path=file.volume_path,
            hint="Set RUNPOD_VOLUME_ID and the RUNPOD_S3_… keys to fetch it, or configure a bucket on the "
            "endpoint.",
        )
    raise TransferError(f"{file.filename}: the worker sent neither {size} nor a place to fetch them.")


def _land(file: Arrived, place: Path, spare: Path) -> Downloaded:
    """Write bytes that came inside the answer; where they cannot go to their place they are kept aside."""
    content = _decode(file)
    try:
        return land(content, place, sha256=file.sha256, what=file.filename)
    except HashMismatch:
        raise
    except TransferError as error:
        if place != spare:
            with contextlib.suppress(TransferError):
                land(content, spare)
                error.hint = f"Its bytes are kept as {spare}."
        raise


def _decode(file: Arrived) -> bytes:
    data = file.data or ""
    try:
        return base64.b64decode(data.partition(",")[2] if data.startswith("data:") else data, validate=True)
    except binascii.Error as error:
        raise TransferError(f"{file.filename} came as broken base64: {error}.") from error


def _file(file: Arrived, place: Path | None, got: Downloaded | None, origin: str) -> GeneratedFile:
    return GeneratedFile(
        type=file.type,
        filename=file.filename,
        local_path=place,
        remote_url=file.url,
        signed_url=file.signed_url,
        size_bytes=got.size_bytes if got else file.size_bytes,
        sha256=got.sha256 if got else file.sha256,
        origin=origin if file.volume_path else "",
        origin_path=file.volume_path,
    )
