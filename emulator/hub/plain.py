"""`/hub/files/<name>`: files of a web server that is no hub, for `url:` sources. It may be badly run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from emulator.files import ranges
from emulator.files.ranges import Span
from emulator.hub.store import Hub, PlainFile

MEDIA_TYPE = "application/octet-stream"


def plain_file(request: Request, hub: Hub) -> Response:
    """Serve a file with its quirks."""
    file = hub.plain.get(request.path_params["name"])
    if file is None:
        return Response("Not Found", 404)
    if not file.ignores_range and file.announced_bytes is None and file.stalls_at is None:
        return ranges.serve(request, file.content, file.etag, {"Content-Type": MEDIA_TYPE})
    return _odd(request, file)


def _odd(request: Request, file: PlainFile) -> Response:
    size = file.content.size
    try:
        span = None if file.ignores_range else ranges.wanted(request, size, file.etag)
    except ValueError:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    status = 200 if span is None else 206
    span = span or Span(0, size)
    headers = {"ETag": file.etag, "Content-Type": MEDIA_TYPE}
    headers["Content-Length"] = str(file.announced_bytes or span.end - span.start)
    if not file.ignores_range:
        headers["Accept-Ranges"] = "bytes"
    if status == 206:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{size}"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_body(file, span), status, headers)


async def _body(file: PlainFile, span: Span) -> AsyncIterator[bytes]:
    sent = 0
    async for piece in ranges.pieces(file.content, span):
        remaining = piece
        if file.announced_bytes is not None:
            remaining = piece[: file.announced_bytes - sent]
        if file.stalls_at is not None and span.start + sent + len(remaining) > file.stalls_at:
            yield remaining[: max(0, file.stalls_at - span.start - sent)]
            await asyncio.Event().wait()
        sent += len(remaining)
        yield remaining
