"""Scan this machine's models: every folder that ComfyUI reads, files by category, hashes when asked for."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from backend.contract import FileRecord
from ops.categories import CATEGORIES, category, is_model_name
from ops.hashing import hash_file
from ops.inventory import Inventory
from ops.layout import MODELS
from ops.safetensors import Header, read_header
from ops.walk import walk

_THREADS: Final = 4
"""Hashing releases the interpreter; more than this and disks seek."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What was found.

    Attributes:
        roots: the folders that were read.
        files: sorted by path; of two files of one name the first root's, which ComfyUI uses.
        ignored: files that are no models.
        unreadable: what could not be read, one sentence each.
    """

    roots: tuple[Path, ...] = ()
    files: tuple[ScannedFile, ...] = ()
    ignored: int = 0
    unreadable: tuple[str, ...] = ()

    def inventory(self) -> Inventory:
        """Give what compare reads: the files as a volume would have them."""
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
        """Give the same scan with the hashes that are known, by location."""
        files = (
            file._replace(sha256=known[file.location]) if file.location in known else file
            for file in self.files
        )
        return replace(self, files=tuple(files))

    def to_json(self) -> dict[str, Any]:
        """Give the manifest: ``categories.checkpoints[…]`` and so on."""
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
    """Hashes that are remembered; see ``ops.hash_cache``."""

    def known(self, files: Sequence[ScannedFile]) -> dict[str, str]:
        """Give the hashes of those files that have not changed since."""
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
        skipped = [0]
        folder = str(root.folder)

        def wanted(path: str, root: Root = root, skipped: list[int] = skipped) -> bool:
            keep = is_model_name(path if root.category is None else f"{root.category}/{path}")
            skipped[0] += not keep
            return keep

        for file in walk(
            root.folder,
            wanted=wanted,
            on_error=lambda path, error, root=root: unreadable.append(  # type: ignore[misc]
                f"{root.folder / path}: {error.strerror or error}"
            ),
        ):
            kind = root.category or category(file.path)
            name = file.path if root.category is not None else file.path.partition("/")[2]
            entry = ScannedFile(
                category=kind,
                name=name,
                path=f"{MODELS}/{kind}/{name}",
                location=f"{folder}/{file.path}",
                size_bytes=file.stat.st_size,
                modified_ns=file.stat.st_mtime_ns,
                inode=file.stat.st_ino,
            )
            found.setdefault(entry.path, entry)
        ignored += skipped[0]
    files = sorted(found.values(), key=lambda file: (file.category not in CATEGORIES, file.path))
    return Scan(
        roots=tuple(root.folder for root in roots),
        files=tuple(files),
        ignored=ignored,
        unreadable=tuple(unreadable),
    )


def look_inside(scanned: Scan) -> Scan:
    """Read the headers of safetensors files: what they are, and whether they are whole."""
    files = list(scanned.files)
    for index, file in enumerate(files):
        if file.name.lower().endswith((".safetensors", ".sft")):
            header: Header = read_header(Path(file.location))
            files[index] = file._replace(architecture=header.architecture, problem=header.problem)
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
    known = hashes.known(scanned.files)
    unreadable = list(scanned.unreadable)

    def one(file: ScannedFile) -> ScannedFile:
        sha256 = known.get(file.location)
        if sha256 is None:
            try:
                sha256 = hash_file(Path(file.location), on_bytes=lambda done: on_bytes(file, done))
            except OSError as error:
                unreadable.append(f"{file.location}: {error.strerror or error}")
                return file
            hashes.keep(file, sha256)
        return file._replace(sha256=sha256)

    with ThreadPoolExecutor(threads) as pool:
        files = tuple(pool.map(one, scanned.files))
    return replace(scanned, files=files, unreadable=tuple(unreadable))
