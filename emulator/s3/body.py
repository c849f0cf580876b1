"""Bodies of uploads: streamed to a file in constant memory, unchunked, hashed and checked on the way."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from emulator.s3.auth import Signed
from emulator.s3.errors import S3Error

WRITE_BYTES = 2 << 20
CHUNKED = "STREAMING-"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived: how much, and its MD5 in hex, which is the ETag."""

    size: int
    md5: str


class _Hashes:
    """The hashes that a body must match, and the one that names it."""

    def __init__(self, headers: Mapping[str, str], payload: str) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        named = {*headers, *headers.get("x-amz-trailer", "").split(",")}
        needs_sha256 = len(payload) == 64 or "x-amz-checksum-sha256" in named
        self._sha256 = hashlib.sha256() if needs_sha256 else None
        self._crc32: int | None = 0 if "x-amz-checksum-crc32" in named else None
        self._payload = payload
        self.size = 0

    def update(self, data: bytes) -> None:
        self.size += len(data)
        self._md5.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        if self._crc32 is not None:
            self._crc32 = zlib.crc32(data, self._crc32)

    def check(self, headers: Mapping[str, str]) -> Received:
        """Compare with what the headers and trailers promise.

        Raises:
            S3Error: something else arrived than was sent.
        """
        if (
            self._sha256 is not None
            and len(self._payload) == 64
            and self._sha256.hexdigest() != self._payload
        ):
            message = "The provided x-amz-content-sha256 header does not match what was computed"
            raise S3Error(400, "XAmzContentSHA256Mismatch", message)
        promised = {"content-md5": self._md5.digest()}
        if self._sha256 is not None:
            promised["x-amz-checksum-sha256"] = self._sha256.digest()
        if self._crc32 is not None:
            promised["x-amz-checksum-crc32"] = self._crc32.to_bytes(4, "big")
        for name, digest in promised.items():
            if name in headers and headers[name] != base64.b64encode(digest).decode():
                raise S3Error(400, "BadDigest", f"The {name} you specified did not match what we received")
        return Received(self.size, self._md5.hexdigest())


async def receive(request: Request, signed: Signed, limit: int, to: Path) -> Received:
    """Write a request's body to a file.

    Args:
        limit: most bytes that the body may have.

    Raises:
        S3Error: it is too large, incomplete, or not what the hashes and signatures promise.
    """
    headers = dict(request.headers)
    announced = headers.get("x-amz-decoded-content-length", headers.get("content-length"))
    if announced is None:
        raise S3Error(411, "MissingContentLength", "You must provide the Content-Length HTTP header")
    if int(announced) > limit:
        raise _too_large(limit)
    trailers: dict[str, str] = {}
    body: AsyncIterator[bytes] = request.stream()
    if signed.payload.startswith(CHUNKED):
        body = unchunked(body, signed, trailers)
    hashes = _Hashes(headers, signed.payload)
    waiting: list[bytes] = []
    with to.open("wb") as file:

        def write() -> None:
            data = b"".join(waiting)
            waiting.clear()
            hashes.update(data)
            file.write(data)

        size = pending = 0
        async for data in body:
            waiting.append(data)
            size += len(data)
            pending += len(data)
            if size > limit:
                raise _too_large(limit)
            if pending >= WRITE_BYTES:
                await asyncio.to_thread(write)
                pending = 0
        await asyncio.to_thread(write)
    if size != int(announced):
        raise S3Error(400, "IncompleteBody", f"The request had {size} of {announced} bytes")
    return hashes.check(headers | trailers)


def _too_large(limit: int) -> S3Error:
    return S3Error(413, "EntityTooLarge", f"Your proposed upload exceeds the maximum of {limit} bytes")


async def unchunked(
    body: AsyncIterator[bytes], signed: Signed, trailers: dict[str, str]
) -> AsyncIterator[bytes]:
    """Undo `aws-chunked`; check each chunk's signature where chunks are signed; fill in the trailers.

    Raises:
        S3Error: the chunks are malformed, or a signature is wrong.
    """
    stream = _Lines(body)
    previous = signed.seed
    while True:
        head = await stream.line()
        size_text, _, extension = head.partition(b";")
        try:
            size = int(size_text, 16)
        except ValueError:
            raise S3Error(400, "IncompleteBody", "The chunked body is malformed") from None
        chunk = await stream.exactly(size)
        if signed.payload.startswith(SIGNED_CHUNKS):
            required = signed.chunk_signature(previous, chunk)
            if extension.removeprefix(b"chunk-signature=").decode() != required:
                message = "The signature of a chunk does not match the one we calculated"
                raise S3Error(403, "SignatureDoesNotMatch", message)
            previous = required
        if size == 0:
            break
        await stream.line()
        yield chunk
    while line := await stream.line():
        name, _, value = line.decode().partition(":")
        trailers[name.strip().lower()] = value.strip()


class _Lines:
    """Reads lines and exact counts from a stream of pieces."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._buffer = b""

    async def _more(self) -> bool:
        async for piece in self._body:
            if piece:
                self._buffer += piece
                return True
        return False

    async def line(self) -> bytes:
        """Return the next line without its end; empty at the end of the stream."""
        while b"\r\n" not in self._buffer:
            if not await self._more():
                line, self._buffer = self._buffer, b""
                return line
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        pieces = [self._buffer]
        have = len(self._buffer)
        self._buffer = b""
        while have < size:
            if not await self._more():
                raise S3Error(400, "IncompleteBody", "The chunked body ended in the middle of a chunk")
            pieces.append(self._buffer)
            have += len(self._buffer)
            self._buffer = b""
        whole = b"".join(pieces)
        self._buffer = whole[size:]
        return whole[:size]
