"""Send a file of this machine to a volume, in parts, going on where an earlier run stopped.

A note on the volume says which multipart upload is ours and of which bytes, so
a later run finds its parts, and nobody else's upload is ever dropped.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend.errors import NotFound, TransferError, Unavailable
from ops.bucket import Bucket, Stored
from ops.crew import Crew
from ops.layout import upload_path

# Field reports: parts of 16 to 64 MB work; 8 MB times some thousand, and 200 MB, were refused.
PART_BYTES: Final = 32 * 1024 * 1024
_MOST_PARTS: Final = 10_000
_THREADS: Final = 3
_TRIES: Final = 2


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file to be sent: where it is, where it goes, and what its bytes are."""

    file: Path
    key: str
    size_bytes: int
    sha256: str


def upload(
    parcel: Parcel,
    bucket: Bucket,
    *,
    on_bytes: Callable[[int, int], object],
    part_bytes: int = PART_BYTES,
) -> int:
    """Send a file, so that it appears complete or not at all.

    Args:
        parcel: what to send.
        bucket: where to.
        on_bytes: told the bytes that are there, and all.
        part_bytes: size of a part; the last may be shorter.

    Returns:
        Bytes sent just now.

    Raises:
        TransferError: it arrived with another size, or not at all.
        ApiError: the gateway refuses.
    """
    part_bytes = max(part_bytes, -(-parcel.size_bytes // _MOST_PARTS))
    if parcel.size_bytes <= part_bytes:
        with parcel.file.open("rb") as file:
            bucket.write(parcel.key, file)
        sent = parcel.size_bytes
    else:
        sent = _in_parts(parcel, bucket, part_bytes, on_bytes)
    on_bytes(parcel.size_bytes, parcel.size_bytes)
    _check_arrival(parcel, bucket)
    return sent


def _in_parts(parcel: Parcel, bucket: Bucket, part_bytes: int, on_bytes: Callable[[int, int], object]) -> int:
    """Send the missing parts in parallel and put all of them together."""
    count = -(-parcel.size_bytes // part_bytes)
    before = bucket.head(parcel.key)
    upload_id, there = _join(parcel, bucket, part_bytes)

    def length(number: int) -> int:
        return min(part_bytes, parcel.size_bytes - (number - 1) * part_bytes)

    etags = {n: etag for n, (size, etag) in there.items() if n <= count and size == length(n)}
    missing = [number for number in range(1, count + 1) if number not in etags]
    done = sum(map(length, etags))
    sent = 0

    def work(crew: Crew[int, str], number: int) -> str:
        if crew.stopped:
            raise TransferError("The upload has ended.", path=parcel.key)
        with parcel.file.open("rb") as file:
            part = _Part(file, (number - 1) * part_bytes, length(number))
            return _send(parcel, bucket, upload_id, number, part)

    threads = min(_THREADS, len(missing))
    with Crew(work, missing, threads=threads, ahead=threads + 1) as crew:
        for number in missing:
            etags[number] = crew.take()
            done += length(number)
            sent += length(number)
            on_bytes(done, parcel.size_bytes)
    _complete(parcel, bucket, upload_id, [etags[number] for number in range(1, count + 1)], before)
    bucket.delete(upload_path(parcel.key))
    return sent


def _join(parcel: Parcel, bucket: Bucket, part_bytes: int) -> tuple[str, dict[int, tuple[int, str]]]:
    """Find our upload of these bytes and its parts, or begin one."""
    note = _note(bucket.read(upload_path(parcel.key)))
    if note is not None:
        upload_id = str(note["upload_id"])
        if (note["sha256"], note["part_bytes"]) == (parcel.sha256, part_bytes):
            there = bucket.parts(parcel.key, upload_id)
            if there is not None:
                return upload_id, dict(there)
        else:
            bucket.abort_upload(parcel.key, upload_id)
    upload_id = bucket.begin_upload(parcel.key)
    mark = {"upload_id": upload_id, "sha256": parcel.sha256, "part_bytes": part_bytes}
    bucket.write(upload_path(parcel.key), json.dumps(mark).encode())
    return upload_id, {}


def _note(content: bytes | None) -> dict[str, Any] | None:
    """Read a note; a damaged one counts as none."""
    try:
        value = json.loads(content or b"")
    except ValueError:
        return None
    whole = isinstance(value, dict) and {"upload_id", "sha256", "part_bytes"} <= value.keys()
    return value if whole else None


def _send(parcel: Parcel, bucket: Bucket, upload_id: str, number: int, part: "_Part") -> str:
    """Send a part until its ETag is the MD5 of what was sent."""
    expected = part.md5()
    for _ in range(_TRIES):
        etag = bucket.upload_part(parcel.key, upload_id, number, part)
        # A gateway that names parts otherwise cannot be compared; the size of the whole still is.
        if etag == expected or len(etag) != len(expected):
            return etag
    raise TransferError(
        f"Part {number} of {parcel.key} arrives damaged.", path=parcel.key, hint="Run the command again."
    )


def _complete(
    parcel: Parcel, bucket: Bucket, upload_id: str, etags: list[str], before: Stored | None
) -> None:
    """Put the parts together. An answer that was lost is looked for before it is asked for again.

    Source: the gateway, or the proxy before it, gives up on a long completion that then succeeds
        (field reports, 524 after 100 s).
    """
    for last in (False, True):
        try:
            bucket.complete_upload(parcel.key, upload_id, etags)
            return
        except (Unavailable, NotFound):
            stored = bucket.head(parcel.key)
            if bucket.parts(parcel.key, upload_id) is None and stored not in (None, before):
                return
            if last:
                raise


def _check_arrival(parcel: Parcel, bucket: Bucket) -> None:
    """Look whether the file is there: an upload that was reported complete has been seen to be missing.

    Source: runpodctl issue 282, read 2026-11-22.
    """
    stored = bucket.head(parcel.key)
    if stored is None:
        raise TransferError(
            f"{parcel.key} was sent and is not on volume {bucket.name}.",
            path=parcel.key,
            hint="Run the command again.",
        )
    if stored.size_bytes != parcel.size_bytes:
        bucket.delete(parcel.key)
        raise TransferError(
            f"{parcel.key} arrived with {stored.size_bytes} bytes instead of {parcel.size_bytes}.",
            path=parcel.key,
            hint="It was deleted. Run the command again.",
        )


class _Part(io.RawIOBase):
    """A stretch of a file, read as if it were a file of its own."""

    def __init__(self, file: io.BufferedIOBase | io.BufferedReader, start: int, length: int) -> None:
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
        """Give the position within the stretch."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move within the stretch."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = min(max(origin + offset, 0), self._length)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read on, to the stretch's end at the most."""
        left = self._length - self._at
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data

    def __len__(self) -> int:
        return self._length
