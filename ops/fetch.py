"""Get the right bytes of one file, ready to be given its name.

Decides what `ops.transfer` does not: which bytes are right, what happens to
wrong ones, and whether there is room.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.contract import ProvisionProgress
from backend.errors import HashMismatch, VolumeFull
from ops.disk import settle, translated
from ops.hashing import hash_file
from ops.partial import Partial
from ops.patience import PACE, Pace
from ops.sources import Origin, Sources
from ops.transfer import Fetched, Outlet, Transfer


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
        held: where they are.
        size_bytes, sha256: what they are.
        fetched_bytes: how many of them came over the network just now.
    """

    held: Partial
    size_bytes: int
    sha256: str
    fetched_bytes: int

    def settle(self, final: Path) -> None:
        """Give the file its name, for good. Only then is it forgotten how the bytes came here."""
        settle(self.held.path, final)
        self.held.discard()


def fetch(
    wish: Wish,
    sources: Sources,
    *,
    partial: Path,
    quarantine: Callable[[str], Path],
    need_room: Callable[[int], object],
    on_progress: Callable[[ProvisionProgress], object],
    pace: Pace = PACE,
) -> Ready:
    """Fetch a file, going on with what an earlier attempt left.

    Bytes with the wrong hash are put into quarantine and fetched once more from
    the beginning; the second time they are refused. They are taken from there
    when it was the hash that was wrong, and has been corrected.

    Args:
        wish: what is wanted.
        sources: where it comes from.
        partial: where bytes on their way are kept.
        quarantine: a hash → where bytes with that hash are put.
        need_room: called with the bytes still to come; raises if they do not fit.
        on_progress: told now and then.
        pace: how hard to try.

    Raises:
        SourceMissing, HashMismatch, VolumeFull, TransferError, ApiError: it cannot be had.
    """
    origin = sources.resolve(wish.source)
    sha256 = agreed_hash(wish, origin)
    if sha256 is not None:
        released = _release(quarantine(sha256), sha256, partial, wish.path)
        if released is not None:
            return released
    spent, wrong = 0, ""
    for last in (False, True):
        held = Partial(partial)
        try:
            fetched = transfer(
                wish,
                origin,
                sha256,
                sources,
                held,
                need_room=need_room,
                on_progress=on_progress,
                pace=pace,
            )
        except VolumeFull:
            if not wrong:
                raise
            break  # what came first, and was wrong, has taken the room for another try
        spent += fetched.fetched_bytes
        if sha256 in (None, fetched.sha256):
            held.close()
            return Ready(held, fetched.size_bytes, fetched.sha256, spent)
        wrong = fetched.sha256
        with translated(wish.path):
            quarantine(wrong).parent.mkdir(parents=True, exist_ok=True)
            held.path.replace(quarantine(wrong))
            held.discard()
        if last:
            break
    raise refused(
        wish,
        sha256 or "",
        wrong,
        f"They were refused and lie in {quarantine(wrong)}. Correct the sha256 in the registry, and they are "
        "taken from there; or name another source, and they are deleted.",
    )


def _release(prison: Path, sha256: str, partial: Path, path: str) -> Ready | None:
    """Take the right bytes out of quarantine, if they are there."""
    with translated(path):
        if not prison.is_file() or hash_file(prison) != sha256:
            return None
        held = Partial(partial)
        held.discard()
        partial.parent.mkdir(parents=True, exist_ok=True)
        prison.replace(partial)
        return Ready(held, partial.stat().st_size, sha256, 0)


def transfer(
    wish: Wish,
    origin: Origin,
    sha256: str | None,
    sources: Sources,
    held: Partial,
    *,
    need_room: Callable[[int], object],
    on_progress: Callable[[ProvisionProgress], object],
    pace: Pace = PACE,
    outlet: Outlet | None = None,
) -> Fetched:
    """Run one transfer into a partial file, and through it where there is an outlet."""

    def tell(done: int, total: int | None) -> None:
        on_progress({"progress": "provision", "path": wish.path, "done_bytes": done, "total_bytes": total})

    return Transfer(
        origin,
        sources,
        held,
        source=wish.source,
        size_bytes=wish.size_bytes if wish.size_bytes is not None else origin.size_bytes,
        sha256=sha256,
        need_room=need_room,
        on_bytes=tell,
        outlet=outlet,
        pace=pace,
    ).run()


def refused(wish: Wish, expected: str, actual: str, hint: str) -> HashMismatch:
    """Make the error for bytes that came twice and were wrong twice.

    Args:
        hint: what became of them, and what to do.
    """
    return HashMismatch(
        f"{wish.path}: what {wish.source} sent has sha256 {actual} instead of {expected}.",
        path=wish.path,
        expected=expected,
        actual=actual,
        hint=hint,
    )


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
