"""Scan this machine's models: every folder that ComfyUI reads, files by category, hashes when asked for."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, NamedTuple, Protocol

from backend.contract import FileRecord
from ops.files.model_content import Finding, examine
from ops.files.sha256 import hash_file
from ops.files.walk import folders
from ops.models.categories import CATEGORIES, category, model_extensions
from ops.models.inventory import Inventory
from ops.models.volume_layout import MODELS
from ops.threads.ordered_pool import Crew

_THREADS: Final = 4
"""Hashing releases the interpreter; more than this and disks seek."""
_SMALL_BYTES: Final = 1024 * 1024
"""Up to here a file is hashed sooner than it is handed to another thread."""


@dataclass(frozen=True, slots=True)
class Root:
    """A folder to scan.

    Attributes:
        folder: where it is.
        category: what its files are; None for a models root, whose folders are the categories.
    """

    folder: Path
    category: str | None = None


class ScannedFile(NamedTuple):
    """A model file on this machine. Tens of thousands are made, and a tuple is made quickly.

    Attributes:
        category: ComfyUI's, aliases resolved.
        name: as a ComfyUI graph names it: its path within the category.
        path: where a volume would have it: ``models/<category>/<name>``.
        location: where it is.
        size_bytes, modified_ns, inode: as the system has them.
        sha256: if it was asked for.
        architecture: what a safetensors file's metadata says it is.
        problem: what is wrong with its content, if that was looked at.
    """

    category: str
    name: str
    path: str
    location: str
    size_bytes: int
    modified_ns: int = 0
    inode: int = 0
    sha256: str | None = None
    architecture: str | None = None
    problem: str | None = None

    def hashed(self, sha256: str) -> "ScannedFile":
        """Return the same file with its hash; `_replace` takes four times as long."""
        return ScannedFile(*self[:7], sha256, *self[8:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What was found.

    Attributes:
        roots: the folders that were read.
        files: sorted by path; of two files of one name the first root's, which ComfyUI uses.
        ignored: files that are not models.
        unreadable: what could not be read, one sentence each.
    """

    roots: tuple[Path, ...] = ()
    files: tuple[ScannedFile, ...] = ()
    ignored: int = 0
    unreadable: tuple[str, ...] = ()

    def inventory(self) -> Inventory:
        """Return what compare reads: the files as a volume would have them."""
        return Inventory.of(
            FileRecord(
                path=file.path,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                how="unknown" if file.sha256 is None else "hashed",
            )
            for file in self.files
        )

    def with_hashes(self, known: Mapping[str, str]) -> "Scan":
        """Return the same scan with the hashes that are known, by location."""
        files = [file.hashed(known[file.location]) if file.location in known else file for file in self.files]
        return replace(self, files=tuple(files))

    def to_json(self) -> dict[str, Any]:
        """Return the manifest: ``categories.checkpoints[…]`` and so on."""
        categories: dict[str, list[dict[str, Any]]] = {}
        for file in self.files:
            entry: dict[str, Any] = {
                "name": file.name,
                "path": file.path,
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
            }
            if file.architecture is not None:
                entry["architecture"] = file.architecture
            if file.problem is not None:
                entry["problem"] = file.problem
            categories.setdefault(file.category, []).append(entry)
        return {
            "roots": [str(root) for root in self.roots],
            "categories": dict(sorted(categories.items())),
            "total_bytes": sum(file.size_bytes for file in self.files),
            "files": len(self.files),
            "ignored": self.ignored,
            "unreadable": list(self.unreadable),
        }


class Hashes(Protocol):
    """Hashes that are remembered; see ``ops.local.hash_cache``."""

    def known(self, files: Sequence[ScannedFile]) -> dict[str, str]:
        """Return the hashes of those files that have not changed since."""
        ...

    def keep(self, file: ScannedFile, sha256: str) -> None:
        """Remember a hash."""
        ...


def scan(roots: Sequence[Root]) -> Scan:
    """List the model files of some folders, without reading any of them."""
    found: dict[str, ScannedFile] = {}
    ignored = 0
    unreadable: list[str] = []
    for root in roots:

        def refused(path: str, error: OSError, root: Root = root) -> None:
            unreadable.append(f"{root.folder / path}: {error.strerror or error}")

        if root.category is not None and not os.path.lexists(root.folder):
            unreadable.append(f"{root.folder} ({root.category}): {_why_missing(str(root.folder))}")
            continue
        for prefix, entries in folders(root.folder, apart=root.category is None, on_error=refused):
            # All that a folder's files have in common is found out once: there are many more files.
            kind = category(f"{prefix}/") if root.category is None else root.category
            below = prefix.partition("/")[2] if root.category is None else prefix
            start = f"{below}/" if below else ""
            extensions = model_extensions(kind)
            for entry in entries:
                dot = entry.name.rfind(".")
                if (entry.name[dot:].lower() if dot > 0 else "") not in extensions:
                    ignored += 1
                    continue
                try:
                    stat = entry.stat()
                except OSError as error:
                    refused(f"{prefix}/{entry.name}" if prefix else entry.name, error)
                    continue
                if not S_ISREG(stat.st_mode):  # a pipe: whoever opened it would wait for ever
                    ignored += 1
                    continue
                name = f"{start}{entry.name}"
                path = f"{MODELS}/{kind}/{name}" if kind else f"{MODELS}/{name}"
                if path not in found:
                    found[path] = ScannedFile(
                        kind, name, path, entry.path, stat.st_size, stat.st_mtime_ns, stat.st_ino
                    )
    files = [found[path] for path in sorted(found)]
    known = frozenset(CATEGORIES)
    return Scan(
        roots=tuple(root.folder for root in roots),
        # ComfyUI's own categories first; the order of paths is kept within both.
        files=tuple(sorted(files, key=lambda file: file.category not in known)),
        ignored=ignored,
        unreadable=tuple(unreadable),
    )


def _why_missing(folder: str) -> str:
    """Say why a folder that a configuration names is not there."""
    if unset := re.search(r"\$\{?\w+\}?", folder):
        return f"the variable {unset[0]} is not set"
    if os.name != "nt" and (drive := re.search(r"(?:^|/)([A-Za-z]:)(?=[/\\])", folder)):
        return f"{drive[1]} is a drive of Windows, and this machine has none"
    return "it does not exist"


def look_inside(scanned: Scan) -> Scan:
    """Look at the bytes of every file: what it is, and whether it is whole."""
    files = list(scanned.files)
    for index, file in enumerate(files):
        try:
            finding = examine(Path(file.location), file.name)
        except OSError as error:
            finding = Finding(problem=f"it cannot be read: {error.strerror or error}")
        files[index] = file._replace(architecture=finding.architecture, problem=finding.problem)
    return replace(scanned, files=tuple(files))


def hash_all(
    scanned: Scan,
    hashes: Hashes,
    *,
    on_bytes: Callable[[ScannedFile, int], object] = lambda _file, _done: None,
    threads: int = _THREADS,
) -> Scan:
    """Add every file's hash, reading only those that changed since they were last hashed.

    Args:
        scanned: what was found.
        hashes: what is remembered.
        on_bytes: told, from any thread, how many bytes of a file are done.
        threads: files at a time.
    """
    files = list(scanned.with_hashes(hashes.known(scanned.files)).files)
    unreadable = list(scanned.unreadable)

    def hashed(file: ScannedFile, tell: Callable[[int], object]) -> ScannedFile:
        try:
            sha256 = hash_file(file.location, on_bytes=tell)
        except OSError as error:
            unreadable.append(f"{file.location}: {error.strerror or error}")
            return file
        hashes.keep(file, sha256)
        return file.hashed(sha256)

    def work(crew: Crew[int, ScannedFile], index: int) -> ScannedFile:
        file = files[index]

        def tell(done: int) -> None:
            if crew.stopped:
                raise CancelledError
            on_bytes(file, done)

        return hashed(file, tell)

    unknown = [index for index, file in enumerate(files) if file.sha256 is None]
    large = [index for index in unknown if files[index].size_bytes > _SMALL_BYTES]
    for index in unknown:
        if files[index].size_bytes <= _SMALL_BYTES:
            files[index] = hashed(files[index], partial(on_bytes, files[index]))
    with Crew(work, large, threads=threads, ahead=threads) as crew:
        for index in large:
            files[index] = crew.take()
    return replace(scanned, files=tuple(files), unreadable=tuple(unreadable))
