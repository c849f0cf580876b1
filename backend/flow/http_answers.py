"""Answers over httpx: read within bounds, and its exceptions turned into ours.

A body is never taken whole on trust. An error may be an endless page, and some
kilobytes of gzip may be gigabytes of text.
"""

import contextlib
import errno
import logging
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from backend.errors import ApiError, InvalidArgument, Unavailable
from backend.flow.environment_proxy import through_proxy
from backend.flow.httpx_library import httpx
from backend.flow.steps import Reply
from backend.validation.json_reader import MAX_BYTES
from backend.validation.printable import shown

logger = logging.getLogger(__name__)

CHUNK_BYTES: Final = 1024 * 1024
MAX_ERROR_BYTES: Final = 256 * 1024
"""What is read of the body of a failing answer; the rest is left."""
# What certainly happened before any byte of the request was on its way.
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_NO_FILES: Final = (errno.EMFILE, errno.ENFILE)
_ENCODINGS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content encoding → what zlib calls it."""


@dataclass(slots=True)
class Call:
    """A request that is under way.

    Attributes:
        status: of the answer; None until it is there, and while a body is read.
    """

    status: int | None = None


@contextlib.contextmanager
def translated(method: str, url: str) -> Iterator[Call]:
    """Turn httpx's exceptions into ours, and log the request once its status is set."""
    address = shown(url)
    start = time.monotonic()
    call = Call()
    try:
        yield call
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise InvalidArgument(f"{address!r} is not an http or https address: {error}.") from None
    except UnicodeError:
        raise InvalidArgument(
            f"A header of the request to {address} holds a character outside ASCII.",
            hint="Check the key for it: it was probably copied with a letter or a quotation mark too many.",
        ) from None
    except (httpx.HTTPError, OSError) as error:
        never = isinstance(error, _NEVER_SENT) or getattr(error, "errno", None) in _NO_FILES
        reason = str(error).rstrip(".") or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            reason = "no connection in time" if never else "it did not answer in time"
        took_ms = (time.monotonic() - start) * 1000
        logger.info("%s %s failed after %.0f ms: %s", method, address, took_ms, reason)
        # Without the cause: an httpx exception holds the request, and the request holds the key.
        raise Unavailable(
            f"{method} {address} {'could not be sent' if never else 'was not answered'}"
            f"{through_proxy(url)}: {reason}.",
            sent=not never,
            method=method,
            url=address,
        ) from None
    if call.status is not None:
        took_ms = (time.monotonic() - start) * 1000
        logger.debug("%s %s: %d in %.0f ms", method, address, call.status, took_ms)


class _Body:
    """A body on its way, decoded within a bound."""

    def __init__(self, response: httpx.Response, method: str) -> None:
        self._response, self._method = response, method
        self._failed = response.status_code >= 400
        self._left = MAX_ERROR_BYTES if self._failed else MAX_BYTES
        self._parts: list[bytes] = []
        bits = _ENCODINGS.get(response.headers.get("content-encoding", "").strip().lower())
        self._inflate = None if bits is None else zlib.decompressobj(bits)

    def add(self, chunk: bytes) -> bool:
        """Take the next bytes; False once the rest is not wanted.

        Raises:
            ApiError: it is larger than any answer that is read, or is not what its header says.
        """
        limit = self._left + 1
        if self._inflate is not None:
            try:
                chunk = self._inflate.decompress(chunk, limit)
            except zlib.error:
                raise self._unreadable("is not the gzip that its header says") from None
        if len(chunk) >= limit:
            if not self._failed:
                raise self._unreadable(f"is larger than {MAX_BYTES // 1024 // 1024} MiB")
            chunk = chunk[: self._left]
        self._parts.append(chunk)
        self._left -= len(chunk)
        return self._left > 0 or not self._failed

    def _unreadable(self, why: str) -> ApiError:
        url = shown(str(self._response.url))
        # Not a passing trouble: the next answer would be as large.
        return ApiError(
            f"{self._method} {url} answered {self._response.status_code}, but the body {why}.",
            hint="Check that the address is the right server's.",
            status=self._response.status_code,
            method=self._method,
            url=url,
        )

    def reply(self) -> Reply:
        """The answer, as far as it was read."""
        response = self._response
        return Reply(
            status=response.status_code,
            headers=dict(response.headers),
            content=b"".join(self._parts),
            url=shown(str(response.url)),
            method=self._method,
        )


def read_reply(response: httpx.Response, method: str) -> Reply:
    """Read an answer within its bound, and close it."""
    body = _Body(response, method)
    try:
        for chunk in response.iter_raw():
            if not body.add(chunk):
                break
    finally:
        response.close()
    return body.reply()


async def aread_reply(response: httpx.Response, method: str) -> Reply:
    """Read an answer within its bound, and close it."""
    body = _Body(response, method)
    chunks: AsyncIterator[bytes] = response.aiter_raw()
    try:
        async for chunk in chunks:
            if not body.add(chunk):
                break
    finally:
        await response.aclose()
    return body.reply()


@dataclass(frozen=True, slots=True)
class StreamReply:
    """An answer whose body is read as it comes."""

    status: int
    headers: Mapping[str, str]
    url: str
    method: str
    _response: httpx.Response = field(repr=False)

    @classmethod
    def of(cls, response: httpx.Response, method: str) -> "StreamReply":
        """The answer that httpx has the head of."""
        return cls(response.status_code, dict(response.headers), shown(str(response.url)), method, response)

    def iter_bytes(self, chunk_bytes: int | None = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the body in chunks, as it was sent (no content encoding is undone or asked for).

        Args:
            chunk_bytes: size of a chunk; None gives bytes at once as they arrive.

        Raises:
            Unavailable: the connection broke in the middle, or fewer bytes came than were announced.
        """
        with translated(self.method, self.url):
            yield from self._response.iter_raw(chunk_bytes)

    def read(self) -> Reply:
        """Read the rest within its bound, for ``backend.flow.check``."""
        with translated(self.method, self.url):
            return read_reply(self._response, self.method)
