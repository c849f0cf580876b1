"""A large file to a volume in parts, so that a cut costs a part and not the whole.

Source: docs.runpod.io, storage/s3-api (read 2026-08-20): parts of at most 500 MB, no least size; a commit is
    slow on large files. Users had 413 with parts of 200 MB, and none with 16 to 64 (2026).
"""

import contextlib
import re
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from backend.errors import ComfyformError, NotFound, Unavailable
from backend.flow import Flow, Progress, Reply, work

PART_BYTES: Final = 32_000_000


class Volume(Protocol):
    """What is asked of a volume over S3; see `backend.files.volume_s3.VolumeS3`."""

    def size_of(self, path: str) -> Flow[int | None]:
        """Return a file's size in bytes, or None if the file does not exist."""

    def send(
        self, method: str, path: str, query: str, content: bytes = b"", *, timeout_s: float = 300.0
    ) -> Flow[Reply]:
        """Send a signed request about a file, again while it fails for a passing reason."""


def put_in_parts(
    volume: Volume, source: Path, path: str, *, size_bytes: int, part_bytes: int = PART_BYTES
) -> Flow[None]:
    """Put a file; what arrived of it is taken back when it does not come whole.

    Yields ``{"progress": "upload", "path", "done_bytes", "total_bytes"}`` for each part.

    Args:
        volume: where to.
        source: the file here; whoever reads it there compares its sha256.
        path: from the volume's root.
        size_bytes: of the file.
        part_bytes: of a part, which is held in memory.
    """
    reply = yield from volume.send("POST", path, "uploads=")
    found = re.search(r"<UploadId>([^<]+)</UploadId>", reply.text)
    if found is None:
        raise Unavailable(f"Put {path} on the volume: S3 began no upload.", status=reply.status)
    upload = f"uploadId={found[1]}"
    try:
        tags = []
        for number, offset in enumerate(range(0, size_bytes, part_bytes), start=1):
            content: bytes = yield from work(partial(_read, source, offset, part_bytes))
            part = yield from volume.send("PUT", path, f"partNumber={number}&{upload}", content)
            tags.append(part.headers.get("etag", "").strip('"'))
            done = min(offset + part_bytes, size_bytes)
            yield Progress(
                {"progress": "upload", "path": path, "done_bytes": done, "total_bytes": size_bytes}
            )
        yield from _complete(volume, path, upload, tags, size_bytes)
    except GeneratorExit:
        raise
    except BaseException:
        with contextlib.suppress(ComfyformError):
            yield from volume.send("DELETE", path, upload)
        raise


def _complete(volume: Volume, path: str, upload: str, tags: list[str], size_bytes: int) -> Flow[None]:
    """Put the parts together. A lost answer is not a failure if the file exists."""
    parts = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"{tag}"</ETag></Part>'
        for number, tag in enumerate(tags, start=1)
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    try:
        reply = yield from volume.send("POST", path, upload, body, timeout_s=1800.0)
        # S3 may say 200 before it knows, and then say what went wrong.
        if "<Error>" in reply.text:
            raise Unavailable(f"Put {path} on the volume: {reply.text[:300]}", status=reply.status)
    except (NotFound, Unavailable):
        if (yield from volume.size_of(path)) != size_bytes:
            raise


def _read(source: Path, offset: int, size: int) -> bytes:
    with source.open("rb") as file:
        file.seek(offset)
        return file.read(size)
