"""Model files in a directory, which is what a worker sees of its volume: an `ops.store.ModelStore`."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from backend.contract import FileRecord, ProvisionedFile, WantedFile
from backend.errors import InvalidArgument, VolumeFull
from ops.disk import need_room, one_writer, read_small, remove_empty_folders, translated, write_whole
from ops.fetch import Wish, fetch
from ops.hashing import hash_file
from ops.inventory import Inventory
from ops.layout import (
    HF_HUB,
    MODELS,
    cache_ref,
    check_model_path,
    check_wanted_path,
    is_model_file,
    is_quarantined,
    lock_path,
    partial_path,
    quarantine_path,
    record_path,
)
from ops.partial import Partial
from ops.patience import PACE, Pace
from ops.records import Record, describe, judge
from ops.sources import Sources
from ops.store import FileByFile, OnProgress, Removal, ignore_progress
from ops.walk import walk


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
                self._empty_quarantine(path)
                try:
                    target.unlink()
                    removed.append(path)
                except FileNotFoundError:
                    missing.append(path)
                remove_empty_folders(target.parent, self._root)
        return Removal(tuple(removed), tuple(missing))

    def _provision(self, wanted: WantedFile, on_progress: OnProgress) -> ProvisionedFile:
        """Make one file be there."""
        path = check_wanted_path(wanted["path"])
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
                need_room=lambda needed: self._need_room(path, needed),
                on_progress=on_progress,
                pace=self._pace,
            )
            with translated(path):
                # Until its own record is written, the new file has none: a crash here costs one hashing.
                self._forget(record_path(path))
                fetched.settle(target)
                self._write_record(path, fetched.sha256, wanted["source"])
                self._write_ref(path)
                self._empty_quarantine(path)
            return ProvisionedFile(
                path=path,
                status="fetched",
                size_bytes=fetched.size_bytes,
                sha256=fetched.sha256,
                fetched_bytes=fetched.fetched_bytes,
            )

    def _need_room(self, path: str, needed_bytes: int) -> None:
        """Refuse before the first byte what does not fit.

        A file is written beside the one that it replaces, and what an earlier run kept of it lies here too.
        """
        need_room(self._root, needed_bytes, path=path)
        if self._capacity is None:
            return
        free = max(0, self._capacity - sum(file.stat.st_size for file in walk(self._root)))
        if needed_bytes > free:
            raise VolumeFull(
                f"{path} needs {needed_bytes:,} bytes more and {free:,} of the volume's "
                f"{self._capacity:,} are free.",
                path=path,
                hint="Grow the volume or remove models from it.",
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

    def _disown(self, recorded: FileRecord) -> None:
        """Delete a record that the file's bytes deny, unless the file was replaced meanwhile."""
        path = recorded["path"]
        with one_writer(self._root / lock_path(path)), translated(path):
            if self._held(path) == recorded:
                self._forget(record_path(path))

    def _record(self, path: str) -> Record | None:
        """Read a record; one that cannot be read is the same as none."""
        try:
            content = read_small(self._root / record_path(path))
        except OSError:
            return None
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

    def _empty_quarantine(self, path: str) -> None:
        """Delete the bytes that came for a file once and were wrong."""
        cell = (self._root / quarantine_path(path, "")).parent
        for wrong in cell.iterdir() if cell.is_dir() else ():
            if is_quarantined(wrong.relative_to(self._root).as_posix(), path):
                self._forget(wrong.relative_to(self._root).as_posix())

    def _forget(self, path: str) -> None:
        """Delete a file of ours and the folders that it leaves empty."""
        target = self._root / path
        target.unlink(missing_ok=True)
        remove_empty_folders(target.parent, self._root)
