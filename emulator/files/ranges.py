"""Send a content whole or in part, as a file server does: Range, If-Range, 206, 416; in constant memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from emulator.files.content import Content

CHUNK_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a content: from byte `start` up to but not including `end`."""

    start: int
    end: int


def wanted(request: Request, size: int, etag: str) -> Span | None:
    """Read what part a request asks for; None when it asks for all.

    A range that If-Range takes back, or whose form is unknown, counts as none.

    Raises:
        ValueError: no byte of the range is there.
    """
    text = request.headers.get("range", "")
    if_range = request.headers.get("if-range")
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if match is None or not any(match.groups()) or (if_range is not None and if_range != etag):
        return None
    first, last = match.groups()
    if not first:
        span = Span(max(0, size - int(last)), size)
    else:
        span = Span(int(first), min(int(last) + 1, size) if last else size)
    if span.start >= span.end:
        raise ValueError(text)
    return span


def serve(request: Request, content: Content, etag: str, headers: Mapping[str, str]) -> Response:
    """Answer a GET or HEAD for a content.

    Args:
        etag: with its quotes.
        headers: what else to say; Content-Length, Content-Range, ETag and Accept-Ranges are added.
    """
    common = {"Accept-Ranges": "bytes", "ETag": etag, **headers}
    try:
        span = wanted(request, content.size, etag)
    except ValueError:
        return Response(status_code=416, headers=common | {"Content-Range": f"bytes */{content.size}"})
    status = 200 if span is None else 206
    span = span or Span(0, content.size)
    if status == 206:
        common["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{content.size}"
    common["Content-Length"] = str(span.end - span.start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=common)
    return StreamingResponse(pieces(content, span), status, common)


async def pieces(content: Content, span: Span) -> AsyncIterator[bytes]:
    """Read a part piece by piece."""
    at = span.start
    while at < span.end:
        piece = content.read(at, min(CHUNK_BYTES, span.end - at))
        at += len(piece)
        yield piece
