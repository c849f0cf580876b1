"""Get the right bytes of one file, ready to be given their name.

Decides what `ops.download.chunked` does not: which bytes are right, what happens to
wrong ones, and whether there is room. What the registry pins is stronger than
what a source announces, and the bytes that came are stronger than both.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.contract import ProvisionProgress, WantedFile
from backend.errors import HashMismatch, TransferError, VolumeFull
from ops.download.chunked import Fetched, Transfer
from ops.download.partial_file import Partial
from ops.files.atomic import settle, translated
from ops.files.model_content import ALLOW_PICKLE, Finding, examine
from ops.files.sha256 import hash_file
from ops.sources.origins import Origin, Sources
from ops.threads.retry import PACE, Pace

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """A file that is wanted: its path for messages, its source, and what its bytes must be, if known.

    With ``allow_pickle`` its pickled code may import whatever it wants.
    """

    path: str
    source: str
    size_bytes: int | None = None
    sha256: str | None = None
    allow_pickle: bool = False

    @classmethod
    def of(cls, wanted: WantedFile) -> "Wish":
        """Make it from the job contract's form."""
        return cls(
            wanted["path"],
            wanted["source"],
            wanted.get("size_bytes"),
            wanted.get("sha256"),
            wanted.get("allow_pickle", False),
        )


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

    Wrong bytes are fetched once more, in one answer from the beginning; the second time they are
    refused. Those that are a whole model with another hash are put into quarantine, and taken from there
    when it was the hash that was wrong, and has been corrected. Those with pickled code that is not allowed
    go there too, for when it is. Content that is not a model is deleted.

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
    if wish.sha256 is not None:
        released = _release(quarantine(wish.sha256), wish.sha256, partial, wish)
        if released is not None:
            logger.info("%s: taken from quarantine, nothing fetched", wish.path)
            return released
    origin = sources.resolve(wish.source)
    expected = wish.sha256 or origin.sha256
    spent = 0
    refusal: TransferError | None = None
    for last in (False, True):
        held = Partial(partial)
        try:
            fetched = _transfer(
                wish,
                origin,
                sources,
                held,
                whole=last,
                need_room=need_room,
                on_progress=on_progress,
                pace=pace,
            )
        except VolumeFull:
            if refusal is None:
                raise
            raise refusal from None  # what came first, and was wrong, has taken the room for another try
        spent += fetched.fetched_bytes
        held.close()
        with translated(wish.path):
            finding = examine(partial, wish.path, allow_pickle=wish.allow_pickle)
            if finding.problem is None and expected in (None, fetched.sha256):
                return Ready(held, fetched.size_bytes, fetched.sha256, spent)
            if finding.problem is None or finding.pickled:
                place = quarantine(fetched.sha256)
                place.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(place)
                refusal = (
                    _not_a_model(wish, finding)
                    if finding.pickled
                    else _wrong_hash(wish, origin, fetched.sha256, place)
                )
            else:
                refusal = _not_a_model(wish, finding)
            held.discard()
        # A bit that flipped on the way, or a cut that nobody noticed, will not come twice.
        as_announced = fetched.sha256 in (expected, origin.sha256)
        if last or as_announced or (expected is None and not finding.incomplete):
            raise refusal
        logger.info("%s: fetching it once more, whole: %s", wish.path, refusal.message)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _release(prison: Path, sha256: str, partial: Path, wish: Wish) -> Ready | None:
    """Take the right bytes out of quarantine, if they are there.

    Raises:
        TransferError: they hold pickled code that is not allowed.
    """
    with translated(wish.path):
        if not prison.is_file() or hash_file(prison) != sha256:
            return None
        finding = examine(prison, wish.path, allow_pickle=wish.allow_pickle)
        if finding.pickled:
            raise _not_a_model(wish, finding)
        if finding.problem is not None:
            return None
        held = Partial(partial)
        held.discard()
        partial.parent.mkdir(parents=True, exist_ok=True)
        prison.replace(partial)
        return Ready(held, partial.stat().st_size, sha256, 0)


def _transfer(
    wish: Wish,
    origin: Origin,
    sources: Sources,
    held: Partial,
    *,
    whole: bool,
    need_room: Callable[[int], object],
    on_progress: Callable[[ProvisionProgress], object],
    pace: Pace,
) -> Fetched:
    """Run one transfer into a partial file."""
    # A size that is announced beside a hash decides nothing: the hash does.
    announced = None if wish.sha256 or origin.sha256 else origin.size_bytes
    size_bytes = announced if wish.size_bytes is None else wish.size_bytes

    def report(done: int, total: int | None) -> None:
        on_progress({"progress": "provision", "path": wish.path, "done_bytes": done, "total_bytes": total})

    return Transfer(
        origin,
        sources,
        held,
        source=wish.source,
        size_bytes=size_bytes,
        sha256=wish.sha256 or origin.sha256,
        need_room=need_room,
        on_bytes=report,
        whole=whole,
        pace=pace,
    ).run()


def _not_a_model(wish: Wish, finding: Finding) -> TransferError:
    """The error for bytes that are not what the file's name promises, whatever hash is pinned."""
    return TransferError(
        f"{wish.path}: rejected what {wish.source} sent: {finding.problem}.",
        path=wish.path,
        hint=ALLOW_PICKLE
        if finding.pickled
        else "Nothing was kept. Check the address and the login that it needs (HF_TOKEN, "
        "CIVITAI_TOKEN), or name another source.",
    )


def _wrong_hash(wish: Wish, origin: Origin, actual: str, place: Path) -> HashMismatch:
    """The error for a whole model with another hash than expected."""
    if wish.sha256 is None:
        hint = (
            "The source announces a hash that its bytes do not have. They look like a whole file and lie in "
            f"{place}. If they are the ones that you want, pin their hash in the registry, and they are "
            f'taken from there: sha256: "{actual}".'
        )
    else:
        also = " The source announces what it sent." if origin.sha256 == actual else ""
        hint = (
            f"The source has another file than the registry pins.{also} Name a revision or a source that has "
            f"the right one. What came lies in {place}; where the registry's sha256 is the mistake, correct "
            "it, and it is taken from there."
        )
    expected = wish.sha256 or origin.sha256 or ""
    return HashMismatch(
        f"{wish.path}: what {wish.source} sent has sha256 {actual} instead of {expected}.",
        path=wish.path,
        expected=expected,
        actual=actual,
        hint=hint,
    )
