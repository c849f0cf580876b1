"""Get, head, put, copy and delete one object."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from email.utils import formatdate
from urllib.parse import unquote

from starlette.responses import Response, StreamingResponse

from emulator.files import ranges
from emulator.files.ranges import Span
from emulator.s3 import listing
from emulator.s3.body import receive
from emulator.s3.call import Call
from emulator.s3.errors import S3Error, document
from emulator.s3.volume import READ_BYTES, Stored


async def get(call: Call) -> Response:
    """Send an object or a part of it; answer HEAD without a body."""
    stored = call.volume.get(call.key)
    etag = f'"{await asyncio.to_thread(lambda: stored.etag)}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Last-Modified": formatdate(stored.modified, usegmt=True),
        "Content-Type": "application/octet-stream",
    }
    _check_conditions(call, etag)
    if call.request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    try:
        span = ranges.wanted(call.request, stored.size, etag)
    except ValueError:
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable") from None
    status = 200 if span is None else 206
    span = span or Span(0, stored.size)
    if status == 206:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{stored.size}"
    headers["Content-Length"] = str(span.end - span.start)
    if call.request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_pieces(stored, span), status, headers)


def _check_conditions(call: Call, etag: str) -> None:
    required = call.request.headers.get("if-match")
    if required is not None and required not in (etag, "*"):
        raise S3Error(
            412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
        )


async def _pieces(stored: Stored, span: Span) -> AsyncIterator[bytes]:
    if span.start == span.end:
        return
    with stored.path.open("rb") as file:
        file.seek(span.start)
        left = span.end - span.start
        while left:
            piece = await asyncio.to_thread(file.read, min(READ_BYTES, left))
            if not piece:
                return
            left -= len(piece)
            yield piece


async def put(call: Call) -> Response:
    """Store an object: aside first, then under its name, whole. A key that ends in a slash is a directory."""
    call.volume.path(call.key)
    aside = call.volume.aside()
    try:
        check_room(call)
        received = await receive(call.request, call.signed, call.limits.s3_part_bytes, aside)
        if call.key.endswith("/"):
            if received.size:
                raise S3Error(400, "InvalidArgument", f"A directory has no content: {call.key!r}")
            call.volume.make_folder(call.key)
        else:
            call.volume.publish(aside, call.key, received.md5)
    finally:
        aside.unlink(missing_ok=True)
    return Response(headers={"ETag": f'"{received.md5}"', **echoed_checksums(call)})


def check_room(call: Call) -> None:
    """Refuse what does not fit on the volume; only where the knob gives it a size.

    Raises:
        S3Error: the volume would be over full.
    """
    capacity = call.limits.s3_volume_bytes
    announced = int(call.request.headers.get("content-length", "0"))
    if capacity and call.volume.used_bytes() + announced > capacity:
        raise S3Error(507, "InsufficientStorage", f"The network volume has room for {capacity} bytes in all")


def echoed_checksums(call: Call) -> dict[str, str]:
    """Give back the checksums that a client sent and that were checked."""
    names = ("x-amz-checksum-crc32", "x-amz-checksum-sha256")
    return {name: call.request.headers[name] for name in names if name in call.request.headers}


async def copy(call: Call) -> Response:
    """Copy an object of the same volume."""
    bucket, _, key = unquote(call.request.headers["x-amz-copy-source"]).lstrip("/").partition("/")
    if bucket != call.bucket:
        raise S3Error(400, "InvalidRequest", "An object can only be copied inside its network volume")
    source = call.volume.get(key)
    aside = call.volume.aside()

    def work() -> Stored:
        shutil.copyfile(source.path, aside)
        return call.volume.publish(aside, call.key, source.etag)

    stored = await asyncio.to_thread(work)
    result = [("ETag", f'"{stored.etag}"'), ("LastModified", listing.timestamp(stored.modified))]
    return Response(document("CopyObjectResult", result), media_type="application/xml")


async def delete(call: Call) -> Response:
    """Delete an object; one that is not there is as good as deleted."""
    await asyncio.to_thread(call.volume.delete, call.key)
    return Response(status_code=204)
