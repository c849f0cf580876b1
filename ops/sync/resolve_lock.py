"""Resolve a registry's sources into a lock, and say what moved since the last time."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from backend.errors import ComfyformError, SourceMissing, TransferError
from backend.flow import RETRY
from ops.download.range_request import RangeReader
from ops.files.atomic import translated
from ops.files.model_content import ALLOW_PICKLE, examine, examine_head
from ops.files.sha256 import hash_file
from ops.local.model_dirs import Locate
from ops.local.scan import Hashes, ScannedFile
from ops.models.source_url import LocalSource, file_name, parse
from ops.registry.load import ModelFile, Registry
from ops.registry.lockfile import Locked
from ops.sources.origins import Origin, Sources
from ops.stores.model_store import OnProgress, ignore_progress
from ops.threads.ordered_pool import Crew, pause
from ops.threads.retry import PACE, Patience

_THREADS: Final = 8
_READ_BYTES: Final = 256 * 1024
_HEAD_BYTES: Final = 4096
_SMALL_BYTES: Final = 32 * 1024 * 1024
"""Largest file that is read to compute its hash where the source announces none: files that Hugging Face
keeps in git, and small ones elsewhere."""
_REPLACE: Final = "Put the whole file there, or remove its entry from the registry."
# An answer is waited for, not a large file.
_PACE: Final = replace(PACE, deadline_s=120.0, retry=RETRY)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the sources of a registry are now.

    Attributes:
        locked: source → what it resolved to; one that failed keeps what it had.
        moved: sources whose bytes or commit changed, one sentence each.
        overruled: sources that announce another sha256 than the registry pins, one sentence each. The lock
            has the pinned one.
        failed: sources that could not be resolved, one sentence each.
    """

    locked: Mapping[str, Locked]
    moved: tuple[str, ...] = ()
    overruled: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Asks sources what they are now.

    Attributes:
        sources: the services to ask.
        locate: finds the models of this machine, which ``local:`` sources name.
        hashes: what is remembered of this machine's files.
        on_progress: told how far the hashing of a large file of this machine is, from any thread.
    """

    sources: Sources
    locate: Locate
    hashes: Hashes
    on_progress: OnProgress = ignore_progress

    def all(self, registry: Registry, before: Mapping[str, Locked]) -> Resolution:
        """Ask every source of a registry. What is interrupted waits for none of them.

        Args:
            registry: loaded without its lock, so that its sources are as written.
            before: the lock so far.
        """
        files = registry.files(required_only=False)
        names = _distinct(file.source for file in files)
        allowed = {file.source for file in files if file.allow_pickle}

        answers: dict[str, _Answer | ComfyformError] = {}

        def work(_: Crew[str, _Answer], name: str) -> _Answer:
            return self._answer(name, name in allowed)

        with Crew(work, names, threads=min(_THREADS, len(names)), ahead=len(names)) as crew:
            for name in names:
                try:
                    answers[name] = crew.take()
                except ComfyformError as error:
                    answers[name] = error
        return _resolution(files, before, answers)

    def one(self, name: str, *, allow_pickle: bool = False) -> Locked:
        """Ask one source.

        Args:
            name: the source.
            allow_pickle: accept pickled code, whatever it imports.

        Raises:
            ComfyformError: it is not there, or may not be had.
        """
        return self._answer(name, allow_pickle).locked

    def _answer(self, name: str, allow_pickle: bool) -> "_Answer":
        """Ask one source, and say whether its bytes were read."""
        source = parse(name)
        if isinstance(source, LocalSource):
            return _Answer(self._here(source, allow_pickle), announced=False)
        origin = self.sources.resolve(name)
        if origin.sha256 is not None and origin.size_bytes is not None:
            return _Answer(Locked(origin.revision, origin.size_bytes, origin.sha256), announced=True)
        size, sha256 = Patience(_PACE, name).persist(
            lambda: _look(origin, self.sources, file_name(origin.source), allow_pickle)
        )
        return _Answer(Locked(origin.revision, size, sha256), announced=sha256 == origin.sha256)

    def _here(self, source: LocalSource, allow_pickle: bool) -> Locked:
        """Hash a file of this machine, unless its hash is remembered."""
        path = self.locate().need(source)
        with translated(str(path)):
            finding = examine(path, allow_pickle=allow_pickle)
            if finding.problem is not None:
                hint = ALLOW_PICKLE if finding.pickled else _REPLACE
                raise TransferError(f"{path} is not used: {finding.problem}.", path=str(path), hint=hint)
            stat = path.stat()
            size = stat.st_size
            file = ScannedFile("", path.name, "", str(path), size, stat.st_mtime_ns, stat.st_ino)

            def tell(done: int) -> None:
                pause(0)  # where Ctrl-C is noticed
                if size > _SMALL_BYTES:
                    self.on_progress(
                        {
                            "progress": "provision",
                            "path": str(source),
                            "done_bytes": done,
                            "total_bytes": size,
                        }
                    )

            sha256 = self.hashes.known([file]).get(file.location)
            if sha256 is None:
                sha256 = hash_file(path, on_bytes=tell)
                self.hashes.keep(file, sha256)
        return Locked(None, size, sha256)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a source is now.

    Attributes:
        announced: its sha256 is what a service says; the bytes were not read.
    """

    locked: Locked
    announced: bool


def _look(origin: Origin, sources: Sources, name: str, allow_pickle: bool) -> tuple[int | None, str | None]:
    """Open a source: its size, and the hash of what is small and whose hash is not announced.

    Raises:
        SourceMissing: its first bytes are not those of the model that its name promises, or it is small
            and holds pickled code.
    """
    reader = RangeReader(origin, sources, timeout_s=_PACE.silence_s)
    with reader, reader.open(0, None) as (content, response):
        size = content.total_bytes if content.total_bytes is not None else origin.size_bytes
        body = bytearray()
        buffer = memoryview(bytearray(_READ_BYTES))
        most = _HEAD_BYTES if origin.sha256 is not None or (size or 0) > _SMALL_BYTES else _SMALL_BYTES
        while len(body) <= most and (count := response.readinto(buffer)):
            body += buffer[:count]
            pause(0)  # where Ctrl-C is noticed
    complete = len(body) <= most and not content.encoding
    finding = examine_head(bytes(body), len(body) if complete else size, name, allow_pickle=allow_pickle)
    if finding.problem is not None:
        other = "Check the address and the login that it needs, or name another source."
        raise SourceMissing(
            f"{origin.source} cannot be used: {finding.problem}.",
            hint=ALLOW_PICKLE if finding.pickled else other,
        )
    return (len(body), hashlib.sha256(body).hexdigest()) if complete else (size, origin.sha256)


def _resolution(
    files: Sequence[ModelFile],
    before: Mapping[str, Locked],
    answers: Mapping[str, _Answer | ComfyformError],
) -> Resolution:
    """Put the answers beside the lock so far, and beside what the registry itself says."""
    locked: dict[str, Locked] = {}
    moved: list[str] = []
    overruled: list[str] = []
    failed: list[str] = []
    for name, answer in answers.items():
        earlier = before.get(name)
        if isinstance(answer, _Answer):
            now = _pinned(files, name, answer) or answer.locked
            problem = _against(files, name, now)
            if problem is None:
                locked[name] = now
                if now != answer.locked:
                    overruled.append(
                        f"{name}: the registry has sha256 {now.sha256}, its source announces "
                        f"{answer.locked.sha256}. The registry's is used."
                    )
                if earlier is not None and earlier != now:
                    moved.append(f"{name}: {change(earlier, now)}")
                continue
        else:
            problem = str(answer)
        failed.append(f"{name}: {problem}")
        if earlier is not None:
            locked[name] = earlier
    return Resolution(locked, tuple(moved), tuple(overruled), tuple(failed))


def _pinned(files: Sequence[ModelFile], name: str, answer: _Answer) -> Locked | None:
    """Return what the registry pins where a source only announces another sha256: the pin is stronger.

    The size that was announced is then of other bytes, and is not used.
    """
    if not answer.announced or answer.locked.sha256 is None:
        return None
    for file in files:
        if file.source == name and file.sha256 not in (None, answer.locked.sha256):
            return Locked(answer.locked.revision, file.size_bytes, file.sha256)
    return None


def _against(files: Sequence[ModelFile], name: str, answer: Locked) -> str | None:
    """Say what the registry pins otherwise than its source has it."""
    for file in files:
        pinned = Locked(
            answer.revision,
            answer.size_bytes if file.size_bytes is None or answer.size_bytes is None else file.size_bytes,
            answer.sha256 if file.sha256 is None or answer.sha256 is None else file.sha256,
        )
        if file.source == name and pinned != answer:
            return (
                f"conflict with the registry for {file.path}: {change(pinned, answer)} at the source. "
                "Correct the registry, or name the revision that had it."
            )
    return None


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
