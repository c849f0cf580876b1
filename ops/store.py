"""A place that holds model files, and what can be done to it.

The three stores answer the same four calls with the same shapes:

* ``FolderStore(root, sources)`` here: a directory, which is what a worker sees of its volume;
* ``S3Store`` in ``ops.volume``: a network volume over RunPod's S3, through this machine;
* ``JobStore`` in ``ops.remote``: a network volume through the ops endpoint's worker.

Signatures that others build on, and that stay::

    Sources.from_settings(settings, http)                                     ops.sources
    FolderStore(root: Path, sources: Sources, *, capacity_bytes=None)         here
    open_store(settings, http, *, transport="job" | "s3", endpoint_id=None,
               volume_id=None, data_center=None) -> ModelStore                ops.stores
    store.inventory(*, hash=False, on_progress=…) -> Inventory
    store.provision(wanted, *, on_progress=…) -> list[ProvisionedFile]
    store.verify(wanted, *, deep=False, on_progress=…) -> list[VerifiedFile]
    store.remove(paths) -> Removal

Callers (``ops.sync``, ``infra``, ``worker``) hold a `ModelStore` and do not care which.
The shapes are the job contract's own (``backend.contract``), so that nothing is
translated between a job and a store. Paths are from the volume root, POSIX.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from backend.contract import FileRecord, ProvisionedFile, ProvisionProgress, VerifiedFile, WantedFile
from backend.errors import ComfyformError, InvalidArgument, PartialApply
from ops.disk import one_writer, read_small, remove_empty_folders, translated, write_whole
from ops.fetch import Wish, fetch
from ops.hashing import hash_file
from ops.inventory import Inventory
from ops.layout import (
    HF_HUB,
    MODELS,
    cache_ref,
    check_model_path,
    is_model_file,
    lock_path,
    partial_path,
    quarantine_path,
    record_path,
)
from ops.partial import Partial
from ops.patience import PACE, Pace
from ops.records import Record, describe, judge, verdict
from ops.sources import Sources
from ops.walk import walk

OnProgress = Callable[[ProvisionProgress], None]
"""Called now and then, from any thread, with bytes done so far of one file."""


def ignore_progress(progress: ProvisionProgress, /) -> None:
    """Take progress and do nothing."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal did.

    Attributes:
        removed: paths deleted, with their records.
        missing: paths that were not there.
    """

    removed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class ModelStore(Protocol):
    """A place that holds model files."""

    def inventory(self, *, hash: bool = False, on_progress: OnProgress = ignore_progress) -> Inventory:  # noqa: A002 - the contract's word
        """List every model file.

        Args:
            hash: read every file and hash it, instead of trusting the records.
            on_progress: called while hashing.

        Raises:
            ComfyformError: the place cannot be listed. A failed listing is never an empty one.
        """
        ...

    def provision(
        self, wanted: Sequence[WantedFile], *, on_progress: OnProgress = ignore_progress
    ) -> list[ProvisionedFile]:
        """Make these files be there, with these bytes. Idempotent; picks up where an earlier call was cut.

        Returns:
            One entry a wanted file, in order.

        Raises:
            TransferError: a file could not be had. With several wanted files the others are still done,
                then `PartialApply` names each failure. A file that was there before is untouched.
        """
        ...

    def verify(
        self,
        wanted: Sequence[WantedFile],
        *,
        deep: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> list[VerifiedFile]:
        """Compare what is there with what is wanted; a difference is an answer, not an error.

        Args:
            wanted: the files to look at.
            deep: read and hash the bytes where they lie, instead of trusting the records.
            on_progress: called while hashing.
        """
        ...

    def remove(self, paths: Sequence[str]) -> Removal:
        """Delete these files and their records; what is not there is no error."""
        ...


def each(
    wanted: Sequence[WantedFile], make: Callable[[WantedFile], ProvisionedFile]
) -> list[ProvisionedFile]:
    """Provision one file after the other; a failure of one does not keep the others from being done.

    Raises:
        ComfyformError: the failure itself where only one file was wanted, else `PartialApply`.
    """
    done: list[ProvisionedFile] = []
    failed: list[ComfyformError] = []
    for file in wanted:
        try:
            done.append(make(file))
        except ComfyformError as error:
            failed.append(error)
    if failed and len(wanted) == 1:
        raise failed[0]
    if failed:
        raise PartialApply(
            [f"{file['path']}: {file['status']}" for file in done], [str(error) for error in failed]
        )
    return done


class FileByFile(ABC):
    """What a store that handles one file after the other does the same wherever its bytes lie."""

    def provision(
        self, wanted: Sequence[WantedFile], *, on_progress: OnProgress = ignore_progress
    ) -> list[ProvisionedFile]:
        """Make these files be there; see `ModelStore`."""
        return each(wanted, lambda file: self._provision(file, on_progress))

    def verify(
        self,
        wanted: Sequence[WantedFile],
        *,
        deep: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> list[VerifiedFile]:
        """Compare what is there with what is wanted; see `ModelStore`."""
        answers = []
        for file in wanted:
            held = self._held(check_model_path(file["path"]))
            answers.append(verdict(file, self._hashed(held, on_progress) if deep and held else held))
        return answers

    @abstractmethod
    def _provision(self, wanted: WantedFile, on_progress: OnProgress) -> ProvisionedFile:
        """Make one file be there."""

    @abstractmethod
    def _held(self, path: str) -> FileRecord | None:
        """Give what is there under a path, by its record."""

    @abstractmethod
    def _hashed(self, held: FileRecord, on_progress: OnProgress) -> FileRecord:
        """Read a file and give its record with the hash of its bytes."""


class FolderStore(FileByFile):
    """Model files in a directory, which is what a worker sees of its volume.

    Safe to use from several threads and processes at once: a file has one writer.

    Args:
        root: the volume's root.
        sources: where files come from.
        capacity_bytes: the volume's size, where the disk's own figure is not the limit.
        pace: how hard a fetch tries.
    """

    def __init__(
        self, root: Path, sources: Sources, *, capacity_bytes: int | None = None, pace: Pace = PACE
    ) -> None:
        self._root = root
        self._sources = sources
        self._capacity = capacity_bytes
        self._pace = pace

    def inventory(self, *, hash: bool = False, on_progress: OnProgress = ignore_progress) -> Inventory:  # noqa: A002
        """List every model file; see `ModelStore`."""
        records: list[FileRecord] = []
        warnings: list[str] = []
        for folder in (MODELS, HF_HUB):
            found = walk(
                self._root / folder,
                on_error=lambda path, error, folder=folder: warnings.append(  # type: ignore[misc]
                    f"{folder}/{path} cannot be read: {error.strerror or error}"
                ),
            )
            for file in found:
                path = f"{folder}/{file.path}"
                if not is_model_file(path):
                    continue
                held = describe(path, file.stat.st_size, file.stat.st_mtime, self._record(path))
                records.append(self._hashed(held, on_progress) if hash else held)
        used = sum(record["size_bytes"] for record in records)
        with translated(str(self._root)):
            disk = shutil.disk_usage(self._root)
        total = disk.total if self._capacity is None else self._capacity
        free = disk.free if self._capacity is None else min(disk.free, max(0, self._capacity - used))
        return Inventory.of(records, total_bytes=total, free_bytes=free, warnings=warnings)

    def remove(self, paths: Sequence[str]) -> Removal:
        """Delete these files and their records; see `ModelStore`."""
        removed, missing = [], []
        for path in paths:
            target = self._target(path)
            with one_writer(self._root / lock_path(path)), translated(path):
                # The record goes first: it must never speak of a file that is gone.
                self._forget(record_path(path))
                Partial(self._root / partial_path(path)).discard()
                try:
                    target.unlink()
                    removed.append(path)
                except FileNotFoundError:
                    missing.append(path)
                remove_empty_folders(target.parent, self._root)
        return Removal(tuple(removed), tuple(missing))

    def _provision(self, wanted: WantedFile, on_progress: OnProgress) -> ProvisionedFile:
        """Make one file be there."""
        path = check_model_path(wanted["path"])
        target = self._target(path)
        with translated(path):
            self._root.mkdir(parents=True, exist_ok=True)
        with one_writer(self._root / lock_path(path)):
            held = self._held(path)
            if held is not None and judge(wanted, held)[0] == "unverified" and wanted.get("sha256"):
                # It was put here by hand, or a writer died between the file and its record.
                held = self._hashed(held, on_progress)
                if held["sha256"] == wanted.get("sha256"):
                    self._write_record(path, held["sha256"] or "", wanted["source"])
                    Partial(self._root / partial_path(path)).discard()
            if held is not None and held["sha256"] and judge(wanted, held)[0] == "right":
                self._write_ref(path)
                return ProvisionedFile(
                    path=path,
                    status="kept",
                    size_bytes=held["size_bytes"],
                    sha256=held["sha256"],
                    fetched_bytes=0,
                )
            wish = Wish(path, wanted["source"], wanted.get("size_bytes"), wanted.get("sha256"))
            fetched = fetch(
                wish,
                self._sources,
                partial=self._root / partial_path(path),
                quarantine=lambda sha256: self._root / quarantine_path(path, sha256),
                room=self._root,
                on_progress=on_progress,
                pace=self._pace,
            )
            with translated(path):
                # Until its own record is written, the new file has none: a crash here costs one hashing.
                self._forget(record_path(path))
                fetched.settle(target)
                self._write_record(path, fetched.sha256, wanted["source"])
                self._write_ref(path)
            return ProvisionedFile(
                path=path,
                status="fetched",
                size_bytes=fetched.size_bytes,
                sha256=fetched.sha256,
                fetched_bytes=fetched.fetched_bytes,
            )

    def _target(self, path: str) -> Path:
        """Give a model file's place, refusing one that a link leads out of the root."""
        target = self._root / check_model_path(path)
        if not target.parent.resolve().is_relative_to(self._root.resolve()):
            raise InvalidArgument(f"{path} leads out of {self._root} through a link.")
        return target

    def _held(self, path: str) -> FileRecord | None:
        """Say what is known of a file, or None when it is not there."""
        try:
            stat = self._target(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return describe(path, stat.st_size, stat.st_mtime, self._record(path))

    def _hashed(self, held: FileRecord, on_progress: OnProgress) -> FileRecord:
        """Read a file and say what its hash is now."""
        path, size = held["path"], held["size_bytes"]

        def tell(done: int) -> None:
            on_progress({"progress": "provision", "path": path, "done_bytes": done, "total_bytes": size})

        with translated(path):
            sha256 = hash_file(self._root / path, on_bytes=tell)
        return FileRecord(path=path, size_bytes=size, sha256=sha256, how="hashed", source=held.get("source"))

    def _record(self, path: str) -> Record | None:
        content = read_small(self._root / record_path(path))
        return None if content is None else Record.from_bytes(content)

    def _write_record(self, path: str, sha256: str, source: str) -> None:
        stat = (self._root / path).stat()
        record = Record.now(stat.st_size, sha256, source, stat.st_mtime)
        write_whole(self._root / record_path(path), record.to_bytes())

    def _write_ref(self, path: str) -> None:
        """For a file in the Hugging Face cache, say which commit is its main branch."""
        reference = cache_ref(path)
        if reference is not None and read_small(self._root / reference[0]) != reference[1].encode():
            write_whole(self._root / reference[0], reference[1].encode())

    def _forget(self, path: str) -> None:
        """Delete a small file of ours and the folders that it leaves empty."""
        target = self._root / path
        target.unlink(missing_ok=True)
        remove_empty_folders(target.parent, self._root)
