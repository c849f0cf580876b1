"""The files of a job's answer, fetched to where they are wanted: every way in which a file can come."""

import base64
import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from backend.errors import HashMismatch, JobFailed, TransferError
from backend.files.deliver import Delivered, deliver, journal_again
from backend.files.output_paths import within
from backend.files.volume_s3 import VolumeS3
from backend.flow import Download, Downloaded, Flow, download, work
from backend.flow.atomic_download import land
from backend.jobs.status import words
from backend.runpod.output_files import Arrived, arrived
from backend.validation.checks import data_address_bytes, path_problem
from backend.validation.json_reader import error_in, shape_of
from backend.validation.printable import shortened
from backend.verbs.result import MEDIA, GeneratedFile, GenerationResult


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
    """Return a result that was written down in the form of a job's answer, to fetch its files once more."""
    files = [
        {**file.to_json(), "url": file.remote_url, "volume_path": file.origin_path} for file in result.files
    ]
    return {"files": files, "seed": result.seed, "prompt_id": result.prompt_id}


def collect(
    output: Any,
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
        raise no_file(output, job_id)
    spares = within(spare_folder, [file.filename for file in found])

    def fetch(number: int, place: Path | None) -> Flow[GeneratedFile]:
        file = found[number]
        to = place or (spares[number] if file.data is not None else None)
        got = (yield from _fetch(file, to, spares[number], volume)) if to is not None else None
        return _file(file, to, got, origin)

    left = [_file(file, None, None, origin) for file in found]
    return (yield from deliver(left, output_path, fetch, again=journal_again(job_id)))


def no_file(output: Any, job_id: str) -> JobFailed:
    """The error of an answer without a file that could be read; its own error comes first."""
    answer = output if isinstance(output, Mapping) else {}
    if (error := error_in(output)) is not None:
        return JobFailed(
            f"Job {job_id} failed: {words(error).rstrip('.')}.",
            job_id=job_id,
            worker_error=shortened(str(error)),
            output=answer,
        )
    return JobFailed(
        f"Job {job_id} succeeded but produced no file: its answer is {shape_of(output)}.",
        job_id=job_id,
        output=answer,
    )


def _fetch(file: Arrived, place: Path, spare: Path, volume: VolumeS3 | None) -> Flow[Downloaded]:
    if file.data is not None:
        return (yield from work(partial(_land, file, place, spare)))
    if address := file.signed_url or file.url:
        step = Download(
            url=address,
            to=place,
            sha256=file.sha256,
            what=file.filename,
            timeout_s=300.0,
            media=file.type in MEDIA,
        )
        return (yield from download(step))
    if file.volume_path and (problem := path_problem(file.volume_path)):
        raise TransferError(f"{file.filename}: the worker gave an unusable path on the volume: {problem}.")
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
    raise TransferError(
        f"{file.filename}: the worker sent neither its content nor an address to fetch it from."
    )


def _land(file: Arrived, place: Path, spare: Path) -> Downloaded:
    """Write bytes that came inside the answer; where they cannot go to their place they are kept aside."""
    content = _decode(file)
    if file.size_bytes not in (None, len(content)) or not (content or file.size_bytes == 0):
        raise TransferError(
            f"{file.filename} arrived damaged: it has {len(content)} bytes"
            + (f", not {file.size_bytes}." if file.size_bytes else ".")
        )
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
        if data[:5].lower() == "data:":
            return data_address_bytes(data)[1]
        return base64.b64decode("".join(data.split()), validate=True)
    except ValueError as error:
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
