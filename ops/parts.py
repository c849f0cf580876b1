"""One multipart upload: parts go up some at a time, each checked, and are put together at the end.

Where a part's bytes lie is the caller's business: in a file of this machine
(``ops.uploads``), or in the ring of one that is only passing (``ops.relay``).
"""

import contextlib
import hashlib
import io
import queue
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from backend.errors import NotFound, TransferError, Unavailable
from ops.bucket import Bucket, Part, Stored
from ops.crew import Crew
from ops.disk import translated

# Field reports: parts of 16 to 64 MB work; 8 MB times some thousand, and 200 MB, were refused.
PART_BYTES: Final = 32 * 1024 * 1024
AT_A_TIME: Final = 3
# Source: docs.runpod.io, serverless/storage/s3-api, read 2026-08-20.
MOST_PARTS: Final = 10_000
MOST_BYTES: Final = 4 * 10**12
_TRIES: Final = 2


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


class Parts:
    """The parts of one upload on their way.

    Args:
        key: the file on the volume.
        bucket: the volume.
        upload_id: the upload.
        shape: how the file is cut.
        there: the parts that arrived earlier.
        file: where the bytes are.
        offset: part number → where it begins in there.
        on_bytes: told the bytes that are on the volume, and all.
    """

    def __init__(
        self,
        key: str,
        bucket: Bucket,
        upload_id: str,
        shape: Shape,
        there: Mapping[int, Part],
        *,
        file: Path,
        offset: Callable[[int], int],
        on_bytes: Callable[[int, int], object] = lambda _done, _all: None,
    ) -> None:
        self._key = key
        self._bucket = bucket
        self._upload_id = upload_id
        self._shape = shape
        self._file = file
        self._offset = offset
        self._on_bytes = on_bytes
        self._before = bucket.head(key)
        self._etags = {
            number: part.etag
            for number, part in there.items()
            if number <= shape.count and part.size_bytes == shape.length(number)
        }
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._under_way: list[int] = []
        # A thread's place is free when its part is taken, so one more than threads keeps all of them busy.
        self._crew: Crew[int, str] = Crew(
            self._send, iter(self._queue.get, None), threads=AT_A_TIME, ahead=AT_A_TIME + 1
        )
        self.sent_bytes = 0

    @property
    def there(self) -> frozenset[int]:
        """The parts that are on the volume."""
        return frozenset(self._etags)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Have threads that send, within a ``with``."""
        with self._crew:
            try:
                yield
            finally:
                self._queue.put(None)

    def send(self, number: int) -> None:
        """Send a part, unless it is there. Returns when at most `AT_A_TIME` parts are still under way.

        Raises:
            ComfyformError: one of the parts before it could not be sent.
        """
        if number in self._etags:
            return
        self._queue.put(number)
        self._under_way.append(number)
        while len(self._under_way) > AT_A_TIME:
            self._settle()

    def wait(self) -> None:
        """Wait for the parts that are under way.

        Raises:
            ComfyformError: one of them could not be sent.
        """
        while self._under_way:
            self._settle()

    def finish(self) -> None:
        """Wait for the parts that are under way, and put all of them together.

        Raises:
            ComfyformError: a part could not be sent, or the gateway refuses.
        """
        self.wait()
        self._complete([self._etags[number] for number in range(1, self._shape.count + 1)])
        check_arrival(self._key, self._shape.size_bytes, self._bucket)

    def _settle(self) -> None:
        """Take the oldest part that is under way."""
        etag = self._crew.take()
        number = self._under_way.pop(0)
        self._etags[number] = etag
        self.sent_bytes += self._shape.length(number)
        self._on_bytes(sum(map(self._shape.length, self._etags)), self._shape.size_bytes)

    def _send(self, crew: Crew[int, str], number: int) -> str:
        """Send a part until its ETag is the MD5 of what was sent."""
        if crew.stopped:
            raise TransferError("The upload has ended.", path=self._key)
        with translated(self._key), self._file.open("rb") as file:
            stretch = Stretch(file, self._offset(number), self._shape.length(number))
            expected = stretch.md5()
            for _ in range(_TRIES):
                etag = self._bucket.upload_part(self._key, self._upload_id, number, stretch)
                # A gateway that names parts otherwise cannot be compared; the size of the whole still is.
                if etag == expected or len(etag) != len(expected):
                    return etag
        raise TransferError(
            f"Part {number} of {self._key} arrives damaged.", path=self._key, hint="Run the command again."
        )

    def _complete(self, etags: list[str]) -> None:
        """Put the parts together. An answer that was lost is looked for before it is asked for again.

        Source: the gateway, or the proxy before it, gives up on a long completion that then succeeds
            (field reports, 524 after 100 s).
        """
        for last in (False, True):
            try:
                self._bucket.complete_upload(self._key, self._upload_id, etags)
                return
            except (Unavailable, NotFound):
                stored = self._bucket.head(self._key)
                gone = self._bucket.parts(self._key, self._upload_id) is None
                if gone and stored is not None and stored != self._before:
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


class Stretch(io.RawIOBase):
    """A stretch of a file, read as if it were a file of its own."""

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
