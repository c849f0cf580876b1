"""Resolve a registry's sources into a lock, and say what moved since the last time."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from backend.errors import ComfyformError
from ops.disk import translated
from ops.hashing import hash_file
from ops.local_models import Locate
from ops.lock import Locked
from ops.patience import PACE
from ops.registry import Registry
from ops.route import Route
from ops.source_names import HfSource, LocalSource, parse
from ops.sources import Origin, Sources

_THREADS: Final = 8
# Hugging Face announces no hash for files that it keeps in git; those are small, so they are read.
_SMALL_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the sources of a registry are now.

    Attributes:
        locked: source → what it resolved to; one that failed keeps what it had.
        moved: sources whose bytes or commit changed, one sentence each.
        failed: sources that could not be resolved, one sentence each.
    """

    locked: Mapping[str, Locked]
    moved: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def resolve(
    registry: Registry, before: Mapping[str, Locked], sources: Sources, *, locate: Locate
) -> Resolution:
    """Ask every source what it is now.

    Args:
        registry: loaded without its lock, so that its sources are as written.
        before: the lock so far.
        sources: the services to ask.
        locate: finds the models of this machine, which ``local:`` sources name.
    """
    names = _distinct(file.source for file in registry.files(required_only=False))

    def one(name: str) -> Locked | ComfyformError:
        try:
            return resolve_one(name, sources, locate=locate)
        except ComfyformError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        answers = list(pool.map(one, names))
    locked: dict[str, Locked] = {}
    moved: list[str] = []
    failed: list[str] = []
    for name, answer in zip(names, answers, strict=True):
        earlier = before.get(name)
        if isinstance(answer, Locked):
            locked[name] = answer
            if earlier is not None and earlier != answer:
                moved.append(f"{name}: {change(earlier, answer)}")
        else:
            failed.append(f"{name}: {answer}")
            if earlier is not None:
                locked[name] = earlier
    return Resolution(locked, tuple(moved), tuple(failed))


def resolve_one(name: str, sources: Sources, *, locate: Locate) -> Locked:
    """Ask one source what it is now.

    Raises:
        ComfyformError: it is not there, or may not be had.
    """
    source = parse(name)
    if isinstance(source, LocalSource):
        file = locate().need(source)
        with translated(str(file)):
            return Locked(None, file.stat().st_size, hash_file(file))
    origin = sources.resolve(name)
    small = isinstance(source, HfSource) and (origin.size_bytes or 0) <= _SMALL_BYTES
    if origin.sha256 is None and small:
        size, sha256 = _read(origin, sources)
        return Locked(origin.revision, size, sha256)
    return Locked(origin.revision, origin.size_bytes, origin.sha256)


def _read(origin: Origin, sources: Sources) -> tuple[int, str]:
    """Read a small file and hash it."""
    digest, size = hashlib.sha256(), 0
    with Route(origin, sources, timeout_s=PACE.silence_s).open(0, None) as (_, reply):
        for chunk in reply.iter_bytes():
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def change(before: Locked, now: Locked) -> str:
    """Say what changed between two resolutions, as the end of a sentence."""
    parts = []
    if before.sha256 != now.sha256:
        parts.append(f"sha256 {_short(before.sha256)} → {_short(now.sha256)}")
    if before.size_bytes != now.size_bytes:
        parts.append(f"size {before.size_bytes} → {now.size_bytes}")
    if before.revision != now.revision:
        same = ", the same bytes" if not parts else ""
        parts.append(f"revision {_short(before.revision)} → {_short(now.revision)}{same}")
    return "; ".join(parts)


def _short(text: str | None) -> str:
    return text[:12] if text else "unknown"


def _distinct(names: Iterable[str]) -> Sequence[str]:
    return sorted(set(names))
