"""Pass a file from its source on to a volume: pieces come in, are hashed, and go up as parts.

Of the file at most a ring of some parts lies on this machine. A piece lies there
until its part is on the volume, and the state of the hash is kept with each
part, so a run that was killed goes on where it was: the gateway lists the parts
that arrived, and only what was on its way from the source comes again. The
upload is completed when the hash over all of it is right, and dropped when it
is wrong, as the gateway cannot rename.
"""

import contextlib
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backend.contract import ProvisionProgress
from backend.errors import TransferError
from ops.bucket import Bucket
from ops.claims import Claims
from ops.disk import need_room, read_small, translated, write_whole
from ops.fetch import Wish, agreed_hash, refused, transfer
from ops.hashing import RunningHash
from ops.partial import Partial
from ops.parts import AT_A_TIME, MOST_BYTES, MOST_PARTS, PART_BYTES, Parts, Shape, Stretch, check_arrival
from ops.patience import PACE, Pace
from ops.sources import Sources
from ops.transfer import Fetched, Hash


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a run has come.

    Attributes:
        run: of this mark and its upload, random: parts of another run are not of the same hash.
        hashed: parts whose bytes the hash has seen; they are on the volume or in the ring.
        state: of the hash after them.
    """

    run: str
    hashed: int = 0
    state: str = ""

    @classmethod
    def read(cls, path: Path) -> "Mark | None":
        """Read a mark; a damaged one counts as none."""
        try:
            value: Any = json.loads(read_small(path) or b"")
            return cls(str(value["run"]), int(value["hashed"]), str(value["state"]))
        except (ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        """Keep it."""
        with translated(str(path)):
            write_whole(path, json.dumps(asdict(self)).encode())


def relay(
    wish: Wish,
    sources: Sources,
    bucket: Bucket,
    claims: Claims,
    *,
    partial: Path,
    need_room_there: Callable[[int], object],
    on_progress: Callable[[ProvisionProgress], object],
    pace: Pace = PACE,
    part_bytes: int = PART_BYTES,
) -> Fetched:
    """Have a file on a volume that is at its source, going on with what an earlier run left.

    Args:
        wish: what is wanted.
        sources: where it comes from.
        bucket: the volume.
        claims: on it; the one made here is the caller's to release.
        partial: where the ring is kept on this machine.
        need_room_there: called with the bytes still to come; raises if the volume has no room for them.
        on_progress: told now and then.
        pace: how hard a fetch tries.
        part_bytes: size of a part; a multiple of the pace's pieces.

    Raises:
        NoRange: the source cannot send parts.
        Outrun: another machine is sending the file.
        SourceMissing, HashMismatch, VolumeFull, TransferError, ApiError: it cannot be had.
    """
    origin = sources.resolve(wish.source)
    sha256 = agreed_hash(wish, origin)
    spent = 0
    for last in (False, True):
        held = Partial(partial)
        with Relay(wish.path, bucket, claims, partial, pace=pace, part_bytes=part_bytes) as outlet:

            def need(left: int, outlet: Relay = outlet) -> None:
                need_room_there(left)
                partial.parent.mkdir(parents=True, exist_ok=True)
                need_room(partial.parent, min(left, outlet.ring_bytes), path=wish.path)

            fetched = transfer(
                wish,
                origin,
                sha256,
                sources,
                held,
                need_room=need,
                on_progress=on_progress,
                pace=pace,
                outlet=outlet,
            )
            spent += fetched.fetched_bytes
            right = sha256 in (None, fetched.sha256)
            if right:
                outlet.complete()
            else:
                outlet.drop()
        forget(partial)
        if right:
            return Fetched(fetched.size_bytes, fetched.sha256, spent)
        if last:
            raise refused(
                wish,
                sha256 or "",
                fetched.sha256,
                "They were dropped before they got the file's name. "
                "Correct the sha256 in the registry, or name another source.",
            )
    raise AssertionError("unreachable: the last attempt returns or raises")


def forget(partial: Path) -> None:
    """Delete what is kept on this machine of a file that needs it no more."""
    Partial(partial).discard()
    _mark_path(partial).unlink(missing_ok=True)


def _mark_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.mark")


class Relay:
    """Where the pieces of a transfer go: an `ops.transfer.Outlet`. Used by one thread, within a ``with``.

    Args:
        key: the file on the volume.
        bucket: the volume.
        claims: on it.
        partial: where the ring is kept; the mark lies beside it.
        pace: of the transfer.
        part_bytes: size of a part.
    """

    def __init__(
        self, key: str, bucket: Bucket, claims: Claims, partial: Path, *, pace: Pace, part_bytes: int
    ) -> None:
        self._key = key
        self._bucket = bucket
        self._claims = claims
        self._pace = pace
        self._part_bytes = part_bytes
        self._mark_path = _mark_path(partial)
        self._sending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sending.__exit__(kind, error, trace)

    @property
    def ring_bytes(self) -> int:
        """The most that lies on this machine: parts under way, the one that is filled, pieces ahead."""
        ahead = -(-self._pace.connections * self._pace.piece_bytes // self._part_bytes)
        return (AT_A_TIME + 1 + ahead) * self._part_bytes

    def window(self, size_bytes: int) -> int | None:
        """Say how many pieces are kept; see `ops.transfer.Outlet`."""
        if size_bytes > MOST_BYTES:
            raise TransferError(
                f"{self._key} would have {size_bytes:,} bytes; RunPod's S3 takes {MOST_BYTES:,} in a file.",
                path=self._key,
            )
        most = self._pace.piece_bytes * MOST_PARTS
        self._part_bytes = max(self._part_bytes, -(-size_bytes // most) * self._pace.piece_bytes)
        return None if size_bytes <= self.ring_bytes else self.ring_bytes // self._pace.piece_bytes

    def begin(self, partial: Partial, *, kept: bool) -> tuple[int, Hash]:
        """Join or begin an upload; see `ops.transfer.Outlet`."""
        self._sending.close()
        if partial.identity is None:
            raise AssertionError("a transfer begins its partial file first")
        self._partial, self._identity = partial, partial.identity
        self._shape = Shape(self._identity.size_bytes, self._part_bytes)
        self._per_part = self._part_bytes // self._identity.piece_bytes
        self._parts: Parts | None = None
        self._mark = (Mark.read(self._mark_path) if kept else None) or Mark(secrets.token_hex(8))
        if self._shape.count > 1:
            self._parts = self._join()
            self._sending.enter_context(self._parts.sending())
            for number in range(1, self._mark.hashed + 1):
                self._parts.send(number)
            # There may be gaps between these, so the ring is counted from the first piece after them.
            self._parts.wait()
        self._hash = RunningHash(self._mark.state)
        return self._mark.hashed * self._per_part, self._hash

    def _join(self) -> Parts:
        """Go on with the upload of the mark's run; from nothing, where bytes that were hashed are lost."""
        parts = self._open()
        gone = set(range(1, self._mark.hashed + 1)) - parts.there
        if not all(self._in_ring(number) for number in gone):
            for index in range(self._identity.pieces):
                self._partial.forget(index)
            self._mark = Mark(secrets.token_hex(8))
            parts = self._open()
        self._mark.write(self._mark_path)
        return parts

    def _open(self) -> Parts:
        upload_id, there = self._claims.take(
            self._key, of=f"stream {self._mark.run}", part_bytes=self._part_bytes, adopt=False
        )
        self._upload_id = upload_id
        return Parts(
            self._key,
            self._bucket,
            upload_id,
            self._shape,
            there,
            file=self._partial.path,
            offset=lambda number: self._identity.offset((number - 1) * self._per_part),
        )

    def _in_ring(self, number: int) -> bool:
        """Tell whether all of a part is on this machine."""
        first = (number - 1) * self._per_part
        pieces = range(first, min(first + self._per_part, self._identity.pieces))
        return all(self._partial.done(index) == self._identity.length(index) for index in pieces)

    def passed(self, index: int) -> None:
        """Send the part that a piece completes; see `ops.transfer.Outlet`."""
        number, rest = divmod(index + 1, self._per_part)
        last = index == self._identity.pieces - 1
        if self._parts is None or (rest and not last):
            return
        if last:
            number = self._shape.count
        else:
            self._mark = Mark(self._mark.run, number, self._hash.state())
            self._mark.write(self._mark_path)
        self._parts.send(number)

    def complete(self) -> None:
        """Give the file its name: its bytes are right."""
        if self._parts is not None:
            self._parts.finish()
            return
        with self._partial.path.open("rb") as file:
            self._bucket.write(self._key, Stretch(file, 0, self._identity.size_bytes))
        check_arrival(self._key, self._identity.size_bytes, self._bucket)

    def drop(self) -> None:
        """Drop what was sent: its bytes are wrong."""
        if self._parts is not None:
            self._bucket.abort_upload(self._key, self._upload_id)
            self._claims.release(self._key)
