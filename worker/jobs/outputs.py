"""Files that a job made, on their way out: inline, to a bucket, or to the volume; then out of the container.

Where a bucket is configured everything goes there, so that every file has a URL.
Else small files travel inside the answer, as many as it can carry, and larger ones
stay on the volume under ``outputs/``, from where the client takes them over S3.
"""

import base64
import hashlib
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Literal

from backend.contract import INLINE_LIMIT_BYTES, OUTPUTS_FOLDER, OutputFile
from backend.errors import NotSupported, TransferError
from backend.flow.atomic_file import AtomicFile
from backend.validation.printable import shortened
from backend.verbs.media_kind import kind_of
from ops.files.atomic import own_place
from ops.files.mime_type import mime_type
from worker.configuration import Bucket
from worker.jobs.bounded_call import bounded_call
from worker.jobs.cancellation import StopSign

Deliver = Literal["auto", "volume"]

CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """A file that ComfyUI made.

    Attributes:
        path: where it lies in the container; its name is the client's name for it.
        sha256: where it is known already.
        optional: it is left out, with a warning, where it cannot be sent.
    """

    path: Path
    sha256: str | None = None
    optional: bool = False

    @property
    def filename(self) -> str:
        """Its name."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where a worker's outputs can go.

    Attributes:
        volume: the volume's root; not a folder where none is mounted.
        bucket: a bucket, or None.
        inline_limit_bytes: what all inline files of one answer may take, as base64.
    """

    volume: Path
    bucket: Bucket | None = None
    inline_limit_bytes: int = INLINE_LIMIT_BYTES

    def send(
        self,
        files: Sequence[Made],
        *,
        job_id: str,
        deliver: Deliver = "auto",
        today: date,
        stop: StopSign | None = None,
        end: float = math.inf,
        warn: Callable[[str], None] = lambda _: None,
    ) -> list[OutputFile]:
        """Send a job's files out, in order.

        Args:
            files: what was made.
            job_id: names the folder on the volume or in the bucket.
            deliver: "volume" keeps even small files there, for a next job to use.
            today: names the folder's parent, so that old outputs are easy to find and delete.
            stop: ends an upload.
            end: when the job's time is over, by `time.monotonic`.
            warn: called with a sentence for each optional file that is left out.

        Raises:
            NotSupported: a file is too large for the answer, and neither a volume nor a bucket is configured.
            TransferError: it could not be written or sent.
        """
        job_folder = re.sub(r"[^\w-]", "_", job_id) or "job"
        folder = f"{OUTPUTS_FOLDER}/{today.isoformat()}/{job_folder}"
        left = self.inline_limit_bytes
        sent = []
        for made in files:
            size = made.path.stat().st_size
            entry: OutputFile = {
                "type": kind_of(made.filename),
                "filename": made.filename,
                "size_bytes": size,
                "sha256": made.sha256 or _sha256(made.path),
            }
            inline = 4 * ((size + 2) // 3)
            try:
                if self.bucket is not None and deliver == "auto":
                    entry["url"] = upload(self.bucket, made, folder, stop, end)
                elif deliver == "auto" and inline <= left:
                    left -= inline
                    entry["data"] = base64.b64encode(made.path.read_bytes()).decode()
                    entry["encoding"] = "base64"
                else:
                    entry["volume_path"] = self._keep(made, folder)
            except (NotSupported, TransferError) as error:
                if not made.optional:
                    raise
                warn(f"{made.filename} was left out: {error.message}")
            else:
                sent.append(entry)
        return sent

    def _keep(self, made: Made, folder: str) -> str:
        """Copy a file to the volume, aside and renamed, and return its path from the volume's root."""
        if not self.volume.is_dir():
            raise NotSupported(
                f"{made.filename} is too large for RunPod's answer ({self.inline_limit_bytes} bytes), "
                "and this worker has neither a volume nor a bucket.",
                hint="Attach a network volume, or set BUCKET_ENDPOINT_URL and its keys on the endpoint.",
            )
        place = own_place(self.volume, f"{folder}/{made.filename}")
        try:
            copy_durably(made.path, place)
        except OSError as error:
            raise TransferError(
                f"{made.filename} could not be written to the volume: {error.strerror or error}.",
                path=f"{folder}/{made.filename}",
                hint="If the volume is full, delete old outputs or grow it.",
            ) from error
        return f"{folder}/{made.filename}"


def copy_durably(source: Path, place: Path) -> None:
    """Copy a file so that its name appears only when all its bytes are on the disk."""
    # Readable by all: outputs are read over S3 and by other workers, whatever this process's umask is.
    with source.open("rb") as stream, AtomicFile(place, mode=0o644) as copy:
        shutil.copyfileobj(stream, copy.file, CHUNK_BYTES)
        copy.commit()


def upload(
    bucket: Bucket, made: Made, folder: str, stop: StopSign | None = None, end: float = math.inf
) -> str:
    """Put a file in the bucket with RunPod's own helper, and return a URL that is good for a week."""
    from runpod.serverless.utils.rp_upload import upload_file_to_bucket

    def send() -> str:
        url: str = upload_file_to_bucket(
            made.filename,
            str(made.path),
            bucket_creds={
                "endpointUrl": bucket.endpoint_url,
                "accessId": bucket.access_key_id,
                "accessSecret": bucket.secret_access_key.reveal(),
            },
            bucket_name=bucket.name,
            prefix=folder,
            extra_args={"ContentType": mime_type(made.path)},
        )
        return url

    try:
        return bounded_call(send, stop or StopSign(), end)
    except Exception as error:
        raise TransferError(
            f"{made.filename} could not be sent to the bucket: {shortened(str(error))}.",
            hint="Check BUCKET_ENDPOINT_URL, its keys and BUCKET_NAME on the endpoint.",
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
