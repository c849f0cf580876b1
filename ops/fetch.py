"""Get the right bytes of one file, ready to be given its name.

Decides what `ops.transfer` does not: which bytes are right, what happens to
wrong ones, and whether there is room.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.contract import ProvisionProgress
from backend.errors import HashMismatch
from ops.disk import need_room, settle, translated
from ops.partial import Partial
from ops.patience import PACE, Pace
from ops.sources import Origin, Sources
from ops.transfer import Fetched, Transfer


@dataclass(frozen=True, slots=True)
class Wish:
    """A file that is wanted: its path for messages, its source, and what its bytes must be, if known."""

    path: str
    source: str
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The right bytes, complete under another name.

    Attributes:
        aside: where they are.
        size_bytes, sha256: what they are.
        fetched_bytes: how many of them came over the network just now.
    """

    aside: Path
    size_bytes: int
    sha256: str
    fetched_bytes: int

    def settle(self, final: Path) -> None:
        """Give the file its name, for good."""
        settle(self.aside, final)


def fetch(
    wish: Wish,
    sources: Sources,
    *,
    partial: Path,
    quarantine: Callable[[str], Path],
    room: Path,
    on_progress: Callable[[ProvisionProgress], object],
    pace: Pace = PACE,
) -> Ready:
    """Fetch a file, going on with what an earlier attempt left.

    Bytes with the wrong hash are put into quarantine and fetched once more from
    the beginning; the second time they are refused.

    Args:
        wish: what is wanted.
        sources: where it comes from.
        partial: where bytes on their way are kept.
        quarantine: a hash → where bytes with that hash are put.
        room: a folder on the disk in question.
        on_progress: told now and then.
        pace: how hard to try.

    Raises:
        SourceMissing, HashMismatch, VolumeFull, TransferError, ApiError: it cannot be had.
    """
    origin = sources.resolve(wish.source)
    sha256 = agreed_hash(wish, origin)
    spent = 0
    for last in (False, True):
        held = Partial(partial)
        fetched = _transfer(wish, origin, sha256, sources, held, room, on_progress, pace)
        spent += fetched.fetched_bytes
        if sha256 in (None, fetched.sha256):
            return Ready(held.release(), fetched.size_bytes, fetched.sha256, spent)
        prison = quarantine(fetched.sha256)
        with translated(wish.path):
            prison.parent.mkdir(parents=True, exist_ok=True)
            held.release().replace(prison)
        if last:
            raise HashMismatch(
                f"{wish.path}: what {wish.source} sent has sha256 {fetched.sha256} instead of {sha256}.",
                path=wish.path,
                expected=sha256 or "",
                actual=fetched.sha256,
                hint=f"They were refused and lie in {prison}. "
                "Correct the sha256 in the registry, or name another source.",
            )
    raise AssertionError("unreachable: the last attempt returns or raises")


def _transfer(
    wish: Wish,
    origin: Origin,
    sha256: str | None,
    sources: Sources,
    held: Partial,
    room: Path,
    on_progress: Callable[[ProvisionProgress], object],
    pace: Pace,
) -> Fetched:
    """Run one transfer into a partial file."""

    def tell(done: int, total: int | None) -> None:
        on_progress({"progress": "provision", "path": wish.path, "done_bytes": done, "total_bytes": total})

    transfer = Transfer(
        origin,
        sources,
        held,
        source=wish.source,
        size_bytes=wish.size_bytes if wish.size_bytes is not None else origin.size_bytes,
        sha256=sha256,
        need_room=lambda needed: need_room(room, needed, path=wish.path),
        on_bytes=tell,
        pace=pace,
    )
    return transfer.run()


def agreed_hash(wish: Wish, origin: Origin) -> str | None:
    """Give the hash that the bytes must have, refusing at once when the source already says otherwise."""
    if wish.sha256 and origin.sha256 and wish.sha256 != origin.sha256:
        raise HashMismatch(
            f"{wish.path}: {wish.source} now has sha256 {origin.sha256} instead of {wish.sha256}.",
            path=wish.path,
            expected=wish.sha256,
            actual=origin.sha256,
            hint="Nothing was fetched. The file was replaced at its source: "
            "pin an older revision, or correct the sha256 in the registry.",
        )
    return wish.sha256 or origin.sha256
