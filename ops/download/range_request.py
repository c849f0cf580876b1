"""Ask an origin for a range of its bytes: redirects, keys, and which bytes an answer carries.

An answer that does not carry the range that was asked for is never an error of
the file: the whole can still be asked for, which needs nothing but a GET.
"""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self

from backend.errors import RateLimited, TransferError, Unavailable, error_class
from backend.flow import check
from backend.flow.error_body import retry_after_s
from backend.settings import Secret
from ops.download.http_client import DownloadClient, Response
from ops.sources.origins import REDIRECTS, Origin, Sources
from ops.sources.ssrf_guard import redirected, same_server

_HOPS: Final = 5
# Source: RFC 9110, section 14.4; servers also write other spaces and an unknown total.
_CONTENT_RANGE: Final = re.compile(r"\s*bytes[\s=:]+(\d+)\s*-\s*(\d+)\s*/\s*(\d+|\*)\s*\Z", re.IGNORECASE)
_HF_RESET: Final = re.compile(r";t=(\d+)")
# What a signed address answers when its time is over.
_EXPIRED: Final = frozenset({400, 401, 403, 404, 410})
# "Not implemented" and its like do not pass.
_LASTING: Final = frozenset({501, 505})


class Changed(TransferError):
    """The server now has another version than the one that was begun with."""


class NoRange(Unavailable):
    """The server does not send the range that was asked for; it may still send the whole."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an answer carries.

    Attributes:
        total_bytes: of the whole file, or None where the server does not say.
        version: what the server calls this version of the file, its ETag or its date; None if nothing.
        etag: the ETag where it is a strong one: equal ones promise equal bytes.
        partial: it is a part of the file, from the offset that was asked for; else it is the whole.
        encoding: how the body is compressed although that was not asked for; empty if it is not.
    """

    total_bytes: int | None
    version: str | None
    etag: str | None
    partial: bool
    encoding: str


class RangeReader:
    """Opens ranges of one origin. Remembers where a redirect led; safe to share between threads.

    Args:
        origin: where to start.
        sources: decides which redirects are allowed, and explains refusals.
        timeout_s: how long a connection may be silent.
    """

    def __init__(self, origin: Origin, sources: Sources, *, timeout_s: float) -> None:
        self._origin = origin
        self._sources = sources
        self._timeout_s = timeout_s
        self._client = DownloadClient(check_peer=partial(sources.check_peer, origin))
        self._lock = threading.Lock()
        self._direct: tuple[str, Secret | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @contextlib.contextmanager
    def open(
        self, start: int, end: int | None, *, etag: str | None = None
    ) -> Iterator[tuple[Content, Response]]:
        """Ask for the bytes from start up to but without end, within a ``with``.

        Args:
            start: offset.
            end: offset, or None for the whole file; start is 0 then.
            etag: the version that was begun with: of another one, the whole is sent.

        Raises:
            SourceMissing: the whole is refused for good.
            NoRange: this range is not sent.
            Unavailable: not now; worth another try.
            Changed: the file is shorter now.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": "comfyform", "Accept": "*/*"}
        if end is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
            if etag is not None:
                headers["If-Range"] = etag
        with self._lock:
            direct = self._direct
        url, key = direct or (self._origin.url, self._origin.key)
        for _ in range(_HOPS + 1):
            self._sources.check_hop(self._origin, url)
            with self._client.open(url, headers=headers, key=key, timeout_s=self._timeout_s) as response:
                if response.status in REDIRECTS and "location" in response.headers:
                    target = redirected(url, response.headers["location"])
                    if not same_server(target, url):
                        key = None
                    url = target
                    continue
                if response.status not in (200, 206):
                    self._refuse(response, ranged=end is not None, remembered=direct is not None)
                content = self._content(response, start, end)
                with self._lock:
                    self._direct = (url, key)
                yield content, response
                return
        raise TransferError(f"{self._origin.source} redirects too many times.")

    def _refuse(self, response: Response, *, ranged: bool, remembered: bool) -> None:
        """Raise what a status other than success means."""
        source, status = self._origin.source, response.status
        reply = response.read()
        if remembered and status in _EXPIRED:
            with self._lock:
                self._direct = None
            raise Unavailable(f"The address of {source} has expired.", status=status)
        if ranged and status == 416:
            raise Changed(f"{source} is shorter now than it was before.")
        lasting = status in _LASTING or not error_class(status).retryable
        if ranged and lasting:
            raise NoRange(f"{source} answered {status} to a request for a part.", status=status)
        if lasting:
            raise self._sources.refusal(source, reply)
        reset = _HF_RESET.search(reply.headers.get("ratelimit", ""))
        if status == 429 and retry_after_s(reply.headers) is None and reset:
            raise RateLimited(
                f"Fetch {source}: too many requests.", retry_after_s=float(reset[1]), status=429
            )
        check(reply, f"Fetch {source}")

    def _content(self, response: Response, start: int, end: int | None) -> Content:
        """Say which bytes an answer carries, and refuse those that were not asked for."""
        headers, source = response.headers, self._origin.source
        tag = headers.get("etag", "").strip()
        encoding = headers.get("content-encoding", "").strip().lower().replace("identity", "")
        length = headers.get("content-length", "").strip()
        size = int(length) if length.isascii() and length.isdigit() and not encoding else None
        match = _CONTENT_RANGE.match(headers.get("content-range", ""))
        total: int | None = None
        if response.status == 206 and match is not None:
            total = None if match[3] == "*" else int(match[3])
            right = int(match[1]) == start and int(match[2]) >= start
        else:
            # A part that does not say which it is can be used when its length is what was asked for.
            right = end is not None and size == end - start
        whole = response.status == 200 or (
            end is None and right and int((match or [0, 0, -1])[2]) + 1 == total
        )
        if whole and start == 0:
            return Content(size, tag or headers.get("last-modified"), _strong(tag), False, encoding)
        if response.status == 200:
            raise NoRange(f"{source} ignored the range and sent the whole file.", status=200)
        if not right or encoding or end is None:
            raise NoRange(f"{source} sent a different range than requested.", status=206)
        return Content(total, tag or headers.get("last-modified"), _strong(tag), True, "")


def _strong(tag: str) -> str | None:
    """An ETag where it is a strong one, else None."""
    return tag if tag.startswith('"') else None
