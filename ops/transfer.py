"""Move a file's bytes from an origin to a partial file: in parallel pieces, hashed on the way, resumable.

Knows bytes, not models: what they should be and where they end up is decided
in ``ops.fetch``, or in ``ops.relay`` where the partial file is a station on the
way to a volume. Memory holds at most a piece a connection and one more, in buffers
that are used again: an allocator that is given pieces to juggle keeps twice as much.
"""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast

from backend.errors import TransferError, Unavailable
from ops.crew import Crew, beside, pause
from ops.disk import translated
from ops.partial import Identity, Partial
from ops.patience import PACE, Pace, Patience
from ops.route import Changed, NoRange, Range, Route
from ops.sources import Origin, Sources
from ops.width import Width

_WRITE_BYTES: Final = 512 * 1024
"""Bytes gathered before a write."""
_PROGRESS_S: Final = 0.25
_RESTARTS: Final = 2

OnBytes = Callable[[int, int | None], object]
"""Called now and then, from any thread, with bytes here and bytes in all."""

_Pieces: TypeAlias = Crew[int, memoryview]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete partial file: its size and hash, and how many bytes came over the network just now."""

    size_bytes: int
    sha256: str
    fetched_bytes: int


class Hash(Protocol):
    """A hash over the bytes so far, such as ``hashlib``'s."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Give the hash in hex."""
        ...


class Outlet(Protocol):
    """What becomes of the pieces once they are in the partial file and hashed, in their order."""

    def window(self, size_bytes: int) -> int | None:
        """Say how many pieces the partial file keeps at a time; None for all."""
        ...

    def begin(self, partial: Partial, *, kept: bool) -> tuple[int, Hash]:
        """Get ready for a file.

        Args:
            partial: where its pieces will be; its identity says which file.
            kept: an earlier run is gone on with.

        Returns:
            The first piece that has not gone through, and the hash of those before it.
        """
        ...

    def passed(self, index: int) -> None:
        """Take a piece that is complete and hashed. Its room may be used again after this returns."""
        ...


class Transfer:
    """One file on its way. Used once, by one thread.

    Args:
        origin: where the bytes are.
        sources: the driver, and what refusals mean.
        partial: where they go.
        source: how the registry calls them.
        size_bytes, sha256: what they should be, as far as it is known.
        need_room: called with the bytes still to come, before the first of them; raises if they do not fit.
        on_bytes: progress.
        outlet: where the pieces go; by default they stay. With one, a server must be able to send parts.
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
        outlet: Outlet | None = None,
        pace: Pace = PACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partial = partial
        self._source = source
        self._size = size_bytes
        self._sha256 = sha256
        self._need_room = need_room
        self._on_bytes = on_bytes
        self._outlet = outlet
        self._pace = pace
        self._clock = clock
        self._route = Route(origin, sources, timeout_s=pace.silence_s)
        self._patience = Patience(pace, source, clock=clock)
        self._lock = threading.Lock()
        self._came = self._here = 0
        self._buffers: list[bytearray] = []
        self._told = float("-inf")

    def run(self) -> Fetched:
        """Bring all bytes here.

        Raises:
            SourceMissing: the server refuses for good.
            ApiError: it did not answer properly within the attempts or the deadline.
            TransferError: it has another size than it should, or the disk refuses.
            NoRange: there is an outlet, and the server sends everything or nothing.
        """
        restarts = 0
        while True:
            try:
                identity = self._learn()
                return self._whole() if identity is None else self._in_pieces(identity)
            except Changed as error:
                restarts += 1
                if restarts > _RESTARTS:
                    raise TransferError(
                        f"{error.message} It changed again each time.", path=self._partial.path.name
                    ) from error
                self._partial.discard()
            except NoRange:
                return self._whole()

    def _learn(self) -> Identity | None:
        """Ask for one byte, to learn size and version; None where the server cannot send parts."""

        def ask() -> Range | None:
            with self._route.open(0, 1) as (answer, _):
                return answer if answer.partial else None

        try:
            answer = beside(lambda: self._patience.persist(ask))
        except Changed:
            return None  # an empty file has no first byte
        if answer is None or answer.total_bytes is None:
            return None
        self._check_size(answer.total_bytes)
        return Identity(
            source=self._source,
            size_bytes=answer.total_bytes,
            sha256=self._sha256,
            etag=answer.etag,
            piece_bytes=self._pace.piece_bytes,
            window=None if self._outlet is None else self._outlet.window(answer.total_bytes),
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
        with contextlib.closing(self._partial) as partial:
            with translated(self._source):
                # First: a server may announce any size, and what is kept of each piece costs memory.
                self._need_room(identity.size_bytes - partial.held_bytes(identity))
                kept = partial.begin(identity, passing=self._outlet is not None)
            first, digest = (
                (0, hashlib.sha256()) if self._outlet is None else self._outlet.begin(partial, kept=kept)
            )
            ahead = range(first, identity.pieces)
            left = sum(identity.length(index) - partial.done(index) for index in ahead)
            self._here = identity.size_bytes - left
            fewest = self._pace.connections
            # Through an outlet, memory is the sender's too, and its pace is the slower one.
            most = self._pace.most_connections if self._outlet is None else fewest
            width = Width(fewest, most, now=self._clock(), busy=time.process_time())

            def work(crew: _Pieces, index: int) -> memoryview:
                return self._piece(crew, identity, index)

            # Pieces that are here are tasks too: none is begun further ahead than the window allows.
            with Crew(work, ahead, threads=min(most, len(ahead)), ahead=fewest) as crew:
                for index in ahead:
                    piece = crew.take()
                    crew.reach(width.look(self._came, now=self._clock(), busy=time.process_time()))
                    digest.update(piece)
                    self._buffers.append(cast("bytearray", piece.obj))
                    if self._outlet is not None:
                        self._outlet.passed(index)
            with translated(self._source):
                partial.finish()
        self._tell(identity.size_bytes, last=True)
        return Fetched(identity.size_bytes, digest.hexdigest(), self._came)

    def _piece(self, crew: _Pieces, identity: Identity, index: int) -> memoryview:
        """Fetch what is missing of a piece, and give all of its bytes."""
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = bytearray(identity.piece_bytes)
        piece = memoryview(buffer)[: identity.length(index)]
        at = 0
        try:
            for chunk in self._partial.read(index):
                piece[at : at + len(chunk)] = chunk
                at += len(chunk)
        except OSError:  # the disk does not give back what it took: then it comes again
            with translated(self._source):
                self._partial.forget(index)

        def go_on() -> None:
            self._read(crew, identity, index, piece)

        self._patience.persist(go_on, wait=crew.wait, headway=lambda: self._partial.done(index))
        return piece

    def _read(self, crew: _Pieces, identity: Identity, index: int, piece: memoryview) -> None:
        """Ask for the rest of a piece and write it as it comes."""
        written = at = self._partial.done(index)
        if at == len(piece):
            return
        start = index * identity.piece_bytes
        with self._route.open(start + at, start + len(piece), etag=identity.etag) as (answer, reply):
            if answer.total_bytes not in (None, identity.size_bytes):
                raise Changed(f"{self._source} was changed while it was fetched.")
            watch = self._patience.watch()
            try:
                for chunk in reply.iter_bytes(None):
                    if crew.stopped:
                        return
                    end = min(at + len(chunk), len(piece))
                    piece[at:end] = chunk[: end - at]
                    at = end
                    watch.saw(len(chunk))
                    if at == len(piece) or at - written >= _WRITE_BYTES:
                        self._keep(index, piece[written:at])
                        written = at
                    if at == len(piece) and not answer.partial:
                        break  # the rest of the file comes in pieces
                    self._patience.check_deadline()
            finally:
                # What came before a cut is as good as the rest.
                if at > written and not crew.stopped:
                    self._keep(index, piece[written:at])
        if at < len(piece):
            raise Unavailable(f"{self._source} ended {len(piece) - at} bytes early.")

    def _keep(self, index: int, data: memoryview) -> None:
        """Write bytes that came."""
        with translated(self._source):
            self._partial.write(index, data)
        with self._lock:
            self._came += len(data)
            self._here += len(data)
        self._tell(self._here)

    def _whole(self) -> Fetched:
        """Fetch everything in one answer, from its beginning, as often as it takes."""
        if self._outlet is not None:
            raise NoRange(f"{self._source} cannot be had in parts.")

        def once() -> Fetched:
            digest, size = hashlib.sha256(), 0
            self._partial.discard()
            with self._route.open(0, None) as (answer, reply):
                if answer.total_bytes is not None:
                    self._check_size(answer.total_bytes)
                    self._need_room(answer.total_bytes)
                watch = self._patience.watch()
                with translated(self._source), self._partial.plain() as file:
                    for chunk in reply.iter_bytes(None):
                        file.write(chunk)
                        digest.update(chunk)
                        size += len(chunk)
                        self._came += len(chunk)
                        watch.saw(len(chunk))
                        if self._size is not None and size > self._size:
                            self._check_size(size)
                        self._patience.check_deadline()
                        pause(0)
                        self._tell(size, total=answer.total_bytes)
            self._check_size(size)
            return Fetched(size, digest.hexdigest(), self._came)

        fetched = self._patience.persist(once)
        self._size = fetched.size_bytes
        self._tell(fetched.size_bytes, last=True)
        return fetched

    def _tell(self, done: int, total: int | None = None, *, last: bool = False) -> None:
        """Report progress, not too often."""
        with self._lock:
            now = self._clock()
            if now - self._told < _PROGRESS_S and not last:
                return
            self._told = now
        identity = self._partial.identity
        self._on_bytes(done, total if total is not None else identity.size_bytes if identity else self._size)
