"""Bring a file's bytes from an origin into a partial file: in parallel pieces, hashed on the way, resumable.

Knows bytes, not models: what they should be and what name they get is decided in
``ops.download.verified``. Where a server sends ranges, pieces are fetched in parallel; where it
does not, whatever is wrong with its answers, the whole is asked for in one answer.

Where the sha256 of the whole is known, pieces of an equal total are put together
whatever their versions: a server with several machines gives each its own ETag.
Memory holds at most a piece a connection and two more, in buffers that are used again.
"""

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from backend.errors import TransferError, Unavailable
from ops.download.http_client import Response
from ops.download.partial_file import Identity, Partial
from ops.download.range_request import Changed, Content, NoRange, RangeReader
from ops.files.atomic import translated
from ops.sources.origins import Origin, Sources
from ops.threads.ordered_pool import Crew, beside, pause
from ops.threads.retry import PACE, Pace, Patience

logger = logging.getLogger(__name__)

_WRITE_BYTES: Final = 512 * 1024
"""Bytes gathered before a write."""
_PROGRESS_S: Final = 0.25
_RESTARTS: Final = 2
_REFUSALS: Final = 3
"""Answers without the range that was asked for, after which the whole is asked for."""

OnBytes = Callable[[int, int | None], object]
"""Called now and then, from any thread, with bytes here and bytes in all."""

_Pieces: TypeAlias = Crew[int, memoryview]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete partial file: its size and hash, and how many bytes came over the network just now."""

    size_bytes: int
    sha256: str
    fetched_bytes: int


class _OnlyWhole(Exception):
    """The server sends no ranges, or does not any more."""


class Transfer:
    """One file on its way. Used once, by one thread.

    Args:
        origin: where the bytes are.
        sources: which redirects are allowed, and what refusals mean.
        partial: where they go.
        source: how the registry calls them.
        size_bytes, sha256: what they should be, as far as it is known.
        need_room: called with the bytes still to come, before the first of them; raises if they do not fit.
        on_bytes: progress.
        whole: ask for everything in one answer, so that all of it is of one version.
        pace: how hard to try.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        origin: Origin,
        sources: Sources,
        partial: Partial,
        *,
        source: str,
        size_bytes: int | None,
        sha256: str | None,
        need_room: Callable[[int], object],
        on_bytes: OnBytes,
        whole: bool = False,
        pace: Pace = PACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partial = partial
        self._source = source
        self._size = size_bytes
        self._sha256 = sha256
        self._need_room = need_room
        self._on_bytes = on_bytes
        self._one_version = sha256 is None
        self._in_ranges = not whole
        self._pace = pace
        self._clock = clock
        self._reader = RangeReader(origin, sources, timeout_s=pace.silence_s)
        self._patience = Patience(pace, source, clock=clock)
        self._lock = threading.Lock()
        self._etag: str | None = None
        self._came = self._here = self._refused = 0
        self._buffers: list[bytearray] = []
        self._reported_s = float("-inf")

    def run(self) -> Fetched:
        """Bring all bytes here.

        Raises:
            SourceMissing: the server refuses for good.
            ApiError: it did not answer properly within the attempts or the deadline.
            TransferError: it has another size than it should, or the disk refuses.
        """
        with self._reader:
            for _ in range(1 + _RESTARTS if self._in_ranges else 0):
                # What is kept of another version goes when the next one is begun, and only then.
                try:
                    identity = beside(lambda: self._patience.persist(self._learn))
                    if identity is not None:
                        return self._in_pieces(identity)
                    logger.info("%s: fetched whole, without ranges", self._source)
                except (NoRange, _OnlyWhole) as error:
                    logger.info("%s: fetched whole: %s", self._source, error.__cause__ or error)
                except Changed as error:
                    logger.info("%s: starting over: %s", self._source, error)
                    continue
                break
            return beside(lambda: self._patience.persist(self._whole))

    def _learn(self) -> Identity | None:
        """Ask for one byte, to learn size and version; None where only the whole can be used."""
        try:
            with self._reader.open(0, 1) as (content, response):
                self._etag = content.etag
                if content.partial:
                    response.readinto(memoryview(bytearray(1)))  # so that the connection can be used again
                return self._identity(content) if content.partial else None
        except Changed:
            return None  # an empty file has no first byte
        except NoRange:
            self._see_whole()
            return None
        except Unavailable as error:
            self._refused += 1
            if error.status is None or error.status == 429 or self._refused < _REFUSALS:
                raise
            self._see_whole()
            return None

    def _see_whole(self) -> None:
        """Look whether the server sends the whole, where it did not send a byte."""
        with self._reader.open(0, None):
            pass

    def _identity(self, content: Content) -> Identity | None:
        """Which bytes an answer is of; None where nothing could tell them from those of another version."""
        if content.total_bytes is None or not (self._sha256 or content.version) or content.encoding:
            return None
        if self._size not in (None, content.total_bytes) and content.partial:
            return None  # some servers say the part's size; what the whole has decides
        self._check_size(content.total_bytes)
        return Identity.of(
            self._source,
            size_bytes=content.total_bytes,
            sha256=self._sha256,
            version=content.version,
            piece_bytes=self._pace.piece_bytes,
        )

    def _check_size(self, size_bytes: int) -> None:
        """Refuse a file of another size before it is fetched."""
        if self._size is not None and size_bytes != self._size:
            raise TransferError(
                f"{self._source} has {size_bytes} bytes; {self._size} are expected.",
                hint="The file was replaced at its source, or the registry's size_bytes is wrong.",
            )

    def _in_pieces(self, identity: Identity) -> Fetched:
        """Fetch the missing pieces in parallel, and hash all of them in order."""
        digest = hashlib.sha256()
        with self._begun(identity) as partial:
            connections = self._pace.connections

            def work(crew: _Pieces, index: int) -> memoryview:
                return self._piece(crew, identity, index)

            # Pieces that are here are tasks too: none is begun further ahead than memory allows.
            with Crew(
                work, range(identity.pieces), threads=min(connections, identity.pieces), ahead=connections + 1
            ) as crew:
                for _ in range(identity.pieces):
                    piece = crew.take()
                    digest.update(piece)
                    self._buffers.append(cast("bytearray", piece.obj))
            with translated(self._source):
                partial.finish()
        self._report(identity.size_bytes, last=True)
        return Fetched(identity.size_bytes, digest.hexdigest(), self._came)

    @contextlib.contextmanager
    def _begun(self, identity: Identity) -> Iterator[Partial]:
        """Open the partial file for these bytes, within a ``with``."""
        with contextlib.closing(self._partial) as partial:
            with translated(self._source):
                # First: a server may announce any size, and what is kept of each piece costs memory.
                held = partial.held_bytes(identity)
                self._need_room(identity.size_bytes - held)
                partial.begin(identity)
            what = "resumed at" if held else "starting at"
            logger.info("%s: %s byte %d of %d", self._source, what, held, identity.size_bytes)
            self._here = held
            yield partial

    def _piece(self, crew: _Pieces, identity: Identity, index: int) -> memoryview:
        """Fetch what is missing of a piece; returns all of its bytes."""
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = bytearray(identity.piece_bytes)
        piece = memoryview(buffer)[: identity.length(index)]
        try:
            self._partial.read(index, piece)
        except OSError:  # the disk does not give back what it took: then it comes again
            with translated(self._source):
                self._partial.forget(index)

        def go_on() -> None:
            try:
                self._read(crew, identity, index, piece)
            except NoRange as error:
                self._refused += 1
                if self._refused >= _REFUSALS:
                    raise _OnlyWhole from error
                raise

        while self._partial.done(index) < len(piece) and not crew.stopped:
            self._patience.persist(go_on, wait=crew.wait, headway=lambda: self._partial.done(index))
        return piece

    def _read(self, crew: _Pieces, identity: Identity, index: int, piece: memoryview) -> None:
        """Ask for the rest of a piece and write it as it comes; a server may send less than was asked for."""
        at = self._partial.done(index)
        start = identity.offset(index)
        etag = self._etag if self._one_version else None
        with self._reader.open(start + at, start + len(piece), etag=etag) as (content, response):
            self._check_version(identity, content)
            self._store(response, index, piece, at, stopped=lambda: crew.stopped)
        if self._partial.done(index) == at and not crew.stopped:
            raise Unavailable(f"{self._source} sent an empty part.")

    def _check_version(self, identity: Identity, content: Content) -> None:
        """Refuse bytes of another version than the one that was begun with."""
        if content.total_bytes not in (None, identity.size_bytes):
            if self._size == identity.size_bytes:
                raise Unavailable(f"{self._source} sent a part of a file of another size.")
            raise Changed(f"{self._source} was changed while it was fetched.")
        if self._one_version and not identity.is_version(content.version):
            raise Changed(f"{self._source} was changed while it was fetched.")

    def _store(
        self, response: Response, index: int, piece: memoryview, at: int, *, stopped: Callable[[], bool]
    ) -> int:
        """Read into a piece from an offset on, and write what came; returns where the answer ended."""
        written = at
        watch = self._patience.watch()
        try:
            while at < len(piece) and (count := response.readinto(piece[at:])):
                if stopped():
                    break
                at += count
                watch.saw(count)
                if at - written >= _WRITE_BYTES:
                    self._keep(index, piece[written:at], written)
                    written = at
                self._patience.check_deadline()
        finally:
            # What came before a cut is as good as the rest.
            if at > written and not stopped():
                self._keep(index, piece[written:at], written)
        return at

    def _keep(self, index: int, data: memoryview, at: int) -> None:
        """Write bytes that came."""
        with translated(self._source):
            self._partial.write(index, data, at)
        with self._lock:
            self._came += len(data)
            self._here += len(data)
        self._report(self._here)

    def _whole(self) -> Fetched:
        """Fetch everything in one answer, from its beginning."""
        with self._reader.open(0, None) as (content, response):
            identity = self._identity(content)
            if identity is None or not identity.size_bytes:
                fetched = self._unsized(content, response)
            else:
                fetched = self._sized(identity, response)
        self._report(fetched.size_bytes, total=fetched.size_bytes, last=True)
        return fetched

    def _sized(self, identity: Identity, response: Response) -> Fetched:
        """Store one answer piece by piece, so that a later run with a better server can use its beginning."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(identity.piece_bytes))
        with self._begun(identity) as partial:
            self._here = 0
            for index in range(identity.pieces):
                pause(0)  # where Ctrl-C is noticed
                piece = buffer[: identity.length(index)]
                if self._store(response, index, piece, 0, stopped=lambda: False) < len(piece):
                    raise Unavailable(f"{self._source} ended early: the server closed the connection.")
                digest.update(piece)
            with translated(self._source):
                partial.finish()
        return Fetched(identity.size_bytes, digest.hexdigest(), self._came)

    def _unsized(self, content: Content, response: Response) -> Fetched:
        """Store one answer that does not say its size, or nothing else of it, or is compressed."""
        digest, size = hashlib.sha256(), 0
        if content.total_bytes is not None:
            self._check_size(content.total_bytes)
            self._need_room(content.total_bytes)
        watch = self._patience.watch()
        with translated(self._source), self._partial.plain() as file:
            for data in response.decoded(content.encoding, self._source, watch.saw):
                file.write(data)
                digest.update(data)
                size += len(data)
                self._came += len(data)
                if self._size is not None and size > self._size:
                    self._check_size(size)
                self._patience.check_deadline()
                pause(0)
                self._report(size, total=content.total_bytes)
        self._check_size(size)
        return Fetched(size, digest.hexdigest(), self._came)

    def _report(self, done: int, total: int | None = None, *, last: bool = False) -> None:
        """Report progress, not too often."""
        with self._lock:
            now = self._clock()
            if now - self._reported_s < _PROGRESS_S and not last:
                return
            self._reported_s = now
        identity = self._partial.identity
        self._on_bytes(done, total if total is not None else identity.size_bytes if identity else self._size)
