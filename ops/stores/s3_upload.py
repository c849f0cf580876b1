"""Send a file of this machine to a volume, so that it appears there complete or not at all.

A large file goes up as a multipart upload: parts of one size, some at a time,
each checked by its MD5, put together at the end. A note on this machine names
the upload, so a later run sends only the parts that did not arrive.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from backend.errors import InvalidJson, NotFound, TransferError, Unavailable
from backend.validation.json_reader import as_object, read_json_file
from ops.files.atomic import translated, write_whole
from ops.stores.s3_client import Bucket, Part, Stored
from ops.threads.ordered_pool import Crew

# Field reports: parts of 16 to 64 MB work; 8 MB times some thousand, and 200 MB, were refused.
PART_BYTES: Final = 32 * 1024 * 1024
AT_A_TIME: Final = 3
# Source: docs.runpod.io, serverless/storage/s3-api, read 2026-08-20.
MOST_PARTS: Final = 10_000
MOST_BYTES: Final = 4 * 10**12
_TRIES: Final = 2


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file to be sent: where it is, where it goes, and what its bytes are."""

    file: Path
    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class UploadNote:
    """A multipart upload that was begun.

    Attributes:
        upload_id: the gateway's name for it.
        sha256: of the file that it sends.
        part_bytes: size of a part.
    """

    upload_id: str
    sha256: str
    part_bytes: int

    @classmethod
    def read(cls, path: Path) -> "UploadNote | None":
        """Read a note; None if it does not exist or is damaged."""
        try:
            value = as_object(read_json_file(path))
            return cls(str(value["upload_id"]), str(value["sha256"]), int(value["part_bytes"]))
        except (OSError, InvalidJson, KeyError, TypeError, ValueError):
            return None

    def write(self, path: Path) -> None:
        """Write it, complete or not at all."""
        with translated(str(path)):
            write_whole(path, json.dumps(asdict(self)).encode())


@dataclass(frozen=True, slots=True)
class Shape:
    """How a file is cut: parts of one size, the last may be shorter. Parts are numbered from 1."""

    size_bytes: int
    part_bytes: int

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-self.size_bytes // self.part_bytes)

    def length(self, number: int) -> int:
        """Bytes of a part."""
        return min(self.part_bytes, self.size_bytes - (number - 1) * self.part_bytes)

    def arrived(self, parts: Mapping[int, Part]) -> dict[int, str]:
        """ETags by number of the parts that are on the volume and have the right size."""
        return {
            number: part.etag
            for number, part in parts.items()
            if number <= self.count and part.size_bytes == self.length(number)
        }


def upload(
    parcel: Parcel,
    bucket: Bucket,
    *,
    note: Path,
    on_bytes: Callable[[int, int], object],
    part_bytes: int = PART_BYTES,
) -> int:
    """Send a file, going on where an earlier run stopped.

    Args:
        parcel: what to send.
        bucket: where to.
        note: where the upload is noted on this machine; deleted when the file is there.
        on_bytes: called with the bytes that are there, and all.
        part_bytes: size of a part; the last may be shorter.

    Returns:
        Bytes sent just now.

    Raises:
        TransferError: it arrived with another size, or not at all, or is too large for the gateway.
        ApiError: the gateway refuses.
    """
    if parcel.size_bytes > MOST_BYTES:
        raise TransferError(
            f"{parcel.key} has {parcel.size_bytes:,} bytes; RunPod's S3 takes {MOST_BYTES:,} in a file.",
            path=parcel.key,
        )
    shape = Shape(parcel.size_bytes, max(part_bytes, -(-parcel.size_bytes // MOST_PARTS)))
    if shape.count <= 1:
        with translated(str(parcel.file)), parcel.file.open("rb", buffering=0) as file:
            bucket.write(parcel.key, file)
        sent = parcel.size_bytes
    else:
        sent = _send_in_parts(parcel, bucket, shape, note, on_bytes)
    check_arrival(parcel.key, parcel.size_bytes, bucket)
    note.unlink(missing_ok=True)
    on_bytes(parcel.size_bytes, parcel.size_bytes)
    return sent


def drop_upload(key: str, bucket: Bucket, note: Path) -> None:
    """Drop the parts that were sent of a file that is not wanted any more, if there are any."""
    earlier = UploadNote.read(note)
    if earlier is not None:
        bucket.abort_upload(key, earlier.upload_id)
    note.unlink(missing_ok=True)


def _send_in_parts(
    parcel: Parcel, bucket: Bucket, shape: Shape, note: Path, on_bytes: Callable[[int, int], object]
) -> int:
    """Send the parts that are missing and put all of them together; returns the bytes sent just now."""
    before = bucket.head(parcel.key)
    upload_id, there = _continued(parcel, bucket, shape, note)
    etags = shape.arrived(there)
    missing = [number for number in range(1, shape.count + 1) if number not in etags]

    def send(crew: Crew[int, str], number: int) -> str:
        if crew.stopped:
            raise TransferError("The upload has ended.", path=parcel.key)
        return _send_part(parcel, bucket, upload_id, shape, number)

    # A thread's place is free when its part is taken, so one more than threads keeps all of them busy.
    with Crew(send, missing, threads=AT_A_TIME, ahead=AT_A_TIME + 1) as crew:
        for number in missing:
            etags[number] = crew.take()
            on_bytes(sum(map(shape.length, etags)), shape.size_bytes)
    _complete(parcel.key, bucket, upload_id, [etags[number] for number in range(1, shape.count + 1)], before)
    return sum(map(shape.length, missing))


def _continued(parcel: Parcel, bucket: Bucket, shape: Shape, note: Path) -> tuple[str, Mapping[int, Part]]:
    """The upload that an earlier run began of the same bytes, or a new one; and its parts."""
    earlier = UploadNote.read(note)
    if earlier is not None:
        if (earlier.sha256, earlier.part_bytes) == (parcel.sha256, shape.part_bytes):
            parts = bucket.parts(parcel.key, earlier.upload_id)
            if parts is not None:
                return earlier.upload_id, parts
        drop_upload(parcel.key, bucket, note)
    upload_id = bucket.begin_upload(parcel.key)
    UploadNote(upload_id, parcel.sha256, shape.part_bytes).write(note)
    return upload_id, {}


def _send_part(parcel: Parcel, bucket: Bucket, upload_id: str, shape: Shape, number: int) -> str:
    """Send a part until its ETag is the MD5 of what was sent."""
    with translated(str(parcel.file)), parcel.file.open("rb") as file:
        section = FileSection(file, (number - 1) * shape.part_bytes, shape.length(number))
        expected = section.md5()
        for _ in range(_TRIES):
            etag = bucket.upload_part(parcel.key, upload_id, number, section)
            # A gateway that names parts otherwise cannot be compared; the size of the whole still is.
            if etag == expected or len(etag) != len(expected):
                return etag
    raise TransferError(
        f"Part {number} of {parcel.key} was damaged in transit.",
        path=parcel.key,
        hint="Run the command again.",
    )


def _complete(key: str, bucket: Bucket, upload_id: str, etags: list[str], before: Stored | None) -> None:
    """Put the parts together. Where the answer was lost, look for the file before asking again.

    Source: the gateway, or the proxy before it, gives up on a long completion that then succeeds
        (field reports, 524 after 100 s).
    """
    for last in (False, True):
        try:
            bucket.complete_upload(key, upload_id, etags)
            return
        except (Unavailable, NotFound):
            stored = bucket.head(key)
            gone = bucket.parts(key, upload_id) is None
            if gone and stored is not None and stored != before:
                return
            if last:
                raise


def check_arrival(key: str, size_bytes: int, bucket: Bucket) -> Stored:
    """Look whether a file is there: an upload that was reported complete has been seen to be missing.

    Source: runpodctl issue 282, read 2026-11-22.

    Raises:
        TransferError: it is not there, or has another size.
    """
    stored = bucket.head(key)
    if stored is None:
        raise TransferError(
            f"{key} was sent and is not on volume {bucket.name}.", path=key, hint="Run the command again."
        )
    if stored.size_bytes != size_bytes:
        bucket.delete(key)
        raise TransferError(
            f"{key} arrived with {stored.size_bytes} bytes instead of {size_bytes}.",
            path=key,
            hint="It was deleted. Run the command again.",
        )
    return stored


class FileSection(io.RawIOBase):
    """A section of a file, read as if it were a file of its own."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file = file
        self._start = start
        self._length = length
        self._at = 0

    def md5(self) -> str:
        """Hash it, as the gateway does for an ETag."""
        digest = hashlib.md5(usedforsecurity=False)
        self.seek(0)
        while data := self.read(1024 * 1024):
            digest.update(data)
        self.seek(0)
        return digest.hexdigest()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position within the section."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move within the section."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = min(max(origin + offset, 0), self._length)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read on, to the section's end at the most."""
        left = self._length - self._at
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data

    def __len__(self) -> int:
        return self._length
