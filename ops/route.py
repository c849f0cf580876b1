"""Open a byte range of an origin: redirects, keys, and whether the answer is the range that was asked for."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from backend.answers import retry_after_s
from backend.errors import RateLimited, TransferError, Unavailable, error_class
from backend.flow import Send, check
from backend.http_answers import StreamReply
from backend.settings import Secret
from ops.addresses import redirected, same_server
from ops.sources import REDIRECTS, Origin, Sources

_HOPS: Final = 5
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")
_HF_RESET: Final = re.compile(r";t=(\d+)")
# What a signed address answers when its time is over.
_EXPIRED: Final = frozenset({400, 401, 403, 404, 410})


class Changed(TransferError):
    """The server now has other bytes than those that were begun with."""


class NoRange(Unavailable):
    """The server sent everything where a part was asked for."""


@dataclass(frozen=True, slots=True)
class Range:
    """What an answer carries.

    Attributes:
        start: offset of its first byte.
        total_bytes: of the whole file, or None where the server does not say.
        etag: of this version, strong ones only.
        partial: it is a part of the file; else it is the whole.
    """

    start: int
    total_bytes: int | None
    etag: str | None
    partial: bool


class Route:
    """The way to one origin. Remembers where a redirect led; safe to share between threads.

    Args:
        origin: where to start.
        sources: decides which hops are allowed, explains refusals, and holds the driver.
        timeout_s: how long a connection may be silent.
    """

    def __init__(self, origin: Origin, sources: Sources, *, timeout_s: float) -> None:
        self._origin = origin
        self._sources = sources
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._direct: tuple[str, Secret | None] | None = None

    @contextlib.contextmanager
    def open(
        self, start: int, end: int | None, *, etag: str | None = None
    ) -> Iterator[tuple[Range, StreamReply]]:
        """Ask for the bytes from start up to but without end, within a ``with``.

        Args:
            start: offset.
            end: offset, or None for everything from start.
            etag: the version that was begun with: another one is sent from its beginning.

        Raises:
            SourceMissing: refused for good.
            Unavailable: not now (`NoRange`: all came instead of a part); worth another try.
            Changed: the file is another one now.
        """
        headers = {"Accept-Encoding": "identity"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
            if etag is not None:
                headers["If-Range"] = etag
        with self._lock:
            direct = self._direct
        url, key = direct or (self._origin.url, self._origin.key)
        for _ in range(_HOPS + 1):
            self._sources.check_hop(self._origin, url)
            send = Send("GET", url, headers=headers, key=key, timeout_s=self._timeout_s)
            with self._sources.http.stream(send) as reply:
                if reply.status in REDIRECTS and "location" in reply.headers:
                    target = redirected(url, reply.headers["location"])
                    if not same_server(target, url):
                        key = None
                    url = target
                    continue
                self._refuse(reply, direct is not None)
                with self._lock:
                    self._direct = (url, key)
                yield self._judge(reply, start, end, etag), reply
                return
        raise TransferError(f"{self._origin.source} is redirected without end.")

    def _refuse(self, reply: StreamReply, remembered: bool) -> None:
        """Raise what a status other than success means."""
        if reply.status in (200, 206):
            return
        whole = reply.read()
        if remembered and reply.status in _EXPIRED:
            with self._lock:
                self._direct = None
            raise Unavailable(f"The address of {self._origin.source} has expired.", status=reply.status)
        if reply.status == 416:
            raise Changed(f"{self._origin.source} is shorter now than it was said to be.")
        if not error_class(reply.status).retryable:
            raise self._sources.refusal(self._origin.source, whole)
        what = f"Fetch {self._origin.source}"
        reset = _HF_RESET.search(reply.headers.get("ratelimit", ""))
        if reply.status == 429 and retry_after_s(reply.headers) is None and reset:
            raise RateLimited(f"{what}: too many requests.", retry_after_s=float(reset[1]), status=429)
        check(whole, what)

    def _judge(self, reply: StreamReply, start: int, end: int | None, etag: str | None) -> Range:
        """Say which bytes an answer carries, and refuse those that were not asked for."""
        tag = reply.headers.get("etag", "")
        strong = tag if tag.startswith('"') else None
        length = reply.headers.get("content-length", "")
        size = int(length) if length.isdigit() else None
        if etag is not None and strong is not None and strong != etag:
            raise Changed(f"{self._origin.source} was changed while it was fetched.")
        if reply.status == 200:
            if "text/html" in reply.headers.get("content-type", ""):
                raise TransferError(
                    f"{self._origin.source} answers with a web page instead of a file.",
                    hint="It may want a login; see the address in a browser.",
                )
            if start:
                raise NoRange(f"{self._origin.source} sent everything where a part was asked for.")
            return Range(0, size, strong, partial=False)
        match = _CONTENT_RANGE.match(reply.headers.get("content-range", ""))
        if match is None:
            raise Unavailable(f"{self._origin.source} sent a part without saying which.", status=206)
        first, last, total = (int(group) for group in match.groups())
        expected_last = min(total, end if end is not None else total) - 1
        if (first, last) != (start, expected_last) or size not in (None, last - first + 1):
            raise Unavailable(f"{self._origin.source} sent another part than was asked for.", status=206)
        return Range(start, total, strong, partial=True)
