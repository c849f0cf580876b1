"""Model files in a directory, as a worker sees its volume: an `ops.stores.model_store.ModelStore`."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

from backend.contract import FileRecord, ProvisionedFile, WantedFile
from backend.errors import ComfyformError, InvalidArgument, PartialApply, VolumeFull
from ops.download.partial_file import Partial
from ops.download.verified import Ready, Wish, fetch
from ops.files.atomic import (
    need_room,
    one_writer,
    own_place,
    read_small,
    remove_empty_folders,
    settle,
    translated,
    write_whole,
)
from ops.files.sha256 import hash_file
from ops.files.walk import walk
from ops.models.inventory import Inventory
from ops.models.record import Record, describe
from ops.models.volume_layout import (
    blob_repository,
    cache_ref,
    check_held_path,
    check_wanted_path,
    composed,
    is_quarantined,
    lock_path,
    partial_path,
    quarantine_path,
    record_path,
    spellings,
)
from ops.sources.origins import Sources
from ops.stores.adoption import announced, fetched_file, place_aside
from ops.stores.folder_listing import Listed, has_link, list_elsewhere, list_files
from ops.stores.model_store import FileByFile, OnProgress, Removal, ignore_progress
from ops.threads.retry import PACE, Pace


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
        listing = list_files(self._root)
        records: list[FileRecord] = []
        for file in listing.files:
            held = self._described(file)
            records.append(self._hashed(held, on_progress) if hash else held)
        with translated(str(self._root)):
            disk = shutil.disk_usage(self._root)
        total = disk.total if self._capacity is None else self._capacity
        found = Inventory.of(
            records,
            total_bytes=total,
            free_bytes=disk.free,
            warnings=listing.warnings,
            elsewhere=map(self._described, listing.elsewhere),
        )
        if self._capacity is None:
            return found
        return replace(found, free_bytes=min(disk.free, max(0, self._capacity - found.used_bytes)))

    def remove(self, paths: Sequence[str]) -> Removal:
        """Delete these files and their records; see `ModelStore`."""
        removed, missing = [], []
        failed: list[ComfyformError] = []
        blobs: list[Path] = []

        def remove(path: str) -> None:
            target = self._target(path)
            with one_writer(own_place(self._root, lock_path(path))), translated(path):
                # The record goes first: it must never speak of a file that is gone.
                self._forget(record_path(path))
                Partial(own_place(self._root, partial_path(path))).discard()
                self._empty_quarantine(path)
                blob = self._blob_behind(target)
                try:
                    target.unlink()
                    removed.append(path)
                    blobs.extend([blob] if blob else [])
                except FileNotFoundError:
                    missing.append(path)
                remove_empty_folders(target.parent, self._root)

        for path in paths:
            try:
                remove(path)
            except ComfyformError as error:
                failed.append(error)
        for blob in dict.fromkeys(blobs):
            self._drop_unlinked(blob)
        if failed and len(paths) == 1:
            raise failed[0]
        if failed:
            raise PartialApply([f"{path}: removed" for path in removed], [str(error) for error in failed])
        return Removal(tuple(removed), tuple(missing))

    def _blob_behind(self, target: Path) -> Path | None:
        """Return the cached blob that a name is a link to."""
        real, root = target.resolve(), self._root.resolve()
        if not target.is_symlink() or not real.is_relative_to(root):
            return None
        return real if blob_repository(real.relative_to(root).as_posix()) and real.is_file() else None

    def _drop_unlinked(self, blob: Path) -> None:
        """Delete a cached blob once the last link to it is gone: nothing could read it any more."""
        with translated(str(blob)):
            if blob.exists() and not has_link(self._root, blob):
                blob.unlink()
                remove_empty_folders(blob.parent, self._root)

    def _provision(self, wanted: WantedFile, on_progress: OnProgress) -> ProvisionedFile:
        """Make one file be there."""
        path = check_wanted_path(wanted["path"])
        target = self._target(path)
        with translated(path):
            self._root.mkdir(parents=True, exist_ok=True)
        with one_writer(own_place(self._root, lock_path(path))):
            held = self._held(path)
            kept = self._keep(wanted, held, on_progress)
            if kept is not None:
                return kept
            fetched = fetch(
                Wish.of(wanted),
                self._sources,
                partial=own_place(self._root, partial_path(path)),
                quarantine=lambda sha256: own_place(self._root, quarantine_path(path, sha256)),
                need_room=lambda needed: self._need_room(path, needed),
                on_progress=on_progress,
                pace=self._pace,
            )
            with translated(path):
                foreign = held is not None and not held["sha256"] and not self._holds(path, fetched)
                aside = self._set_aside(path) if foreign else None
                # Until its own record is written, the new file has none: a crash here costs one hashing.
                self._forget(record_path(path))
                fetched.settle(target)
                self._write_record(path, fetched.sha256, wanted["source"])
                self._write_ref(path)
                self._empty_quarantine(path)
            return fetched_file(path, fetched, aside)

    def _announced(self, wanted: WantedFile) -> WantedFile:
        return announced(wanted, self._sources)

    def _drop_attempts(self, path: str) -> None:
        """Delete what a writer left that died between the file and its record."""
        Partial(own_place(self._root, partial_path(path))).discard()

    def _look_at(self, path: str) -> FileRecord | None:
        try:
            stat = (self._root / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        inside = (self._root / path).resolve().is_relative_to(self._root.resolve())
        if not S_ISREG(stat.st_mode) or not inside:
            return None
        return describe(path, stat.st_size, stat.st_mtime, None)

    def _others(self, path: str) -> list[FileRecord]:
        spelled = [self._look_at(spelling) for spelling in spellings(path)[1:]]
        listed = [
            describe(one.path, one.stat.st_size, one.stat.st_mtime, None)
            for one in list_elsewhere(self._root)
        ]
        return [*(one for one in spelled if one is not None), *listed]

    def _move(self, other: FileRecord, path: str) -> bool:
        old, target = self._root / other["path"], self._target(path)
        with self._alone(other["path"], path), translated(path):
            if self._look_at(other["path"]) is None:
                return False
            settle(old, target)
            self._forget(record_path(other["path"]))
            # The pod's own ComfyUI goes on finding it, where the file system has links.
            if composed(other["path"]) != composed(path):
                with contextlib.suppress(OSError):
                    old.symlink_to(os.path.relpath(target, old.parent))
        return True

    def _alone(self, other: str, path: str) -> contextlib.AbstractContextManager[None]:
        """Keep other writers from a file; the lock of its spelling `path` is held already."""
        if lock_path(other) == lock_path(path):
            return contextlib.nullcontext()
        return one_writer(own_place(self._root, lock_path(other)))

    def _holds(self, path: str, fetched: Ready) -> bool:
        """Tell whether the file that is there has the bytes that were fetched."""
        target = self._root / path
        return target.stat().st_size == fetched.size_bytes and hash_file(target) == fetched.sha256

    def _set_aside(self, path: str) -> str | None:
        """Move a file of other hands out of the way; where a link leads stays as it is."""
        target, place = self._root / path, place_aside(path)
        if target.is_symlink():
            return None
        cell = own_place(self._root, place)
        cell.parent.mkdir(parents=True, exist_ok=True)
        target.rename(cell)
        return place

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
        """Return a model file's place, refusing one that a link leads out of the root."""
        target = self._root / check_held_path(path)
        real = target.parent.resolve()
        if not real.is_relative_to(self._root.resolve()):
            raise InvalidArgument(
                f"{path} leads out of {self._root} through a link, to {real}.",
                hint="Replace that link with a folder, or with a link that stays on the volume.",
            )
        return target

    def _described(self, file: Listed) -> FileRecord:
        """Say what is known of a listed file."""
        record = describe(file.path, file.stat.st_size, file.stat.st_mtime, self._record(file.path))
        if file.link is not None:
            record["link"] = file.link
        return record

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
        return FileRecord({**held, "size_bytes": size, "sha256": sha256, "how": "hashed"})

    def _disown(self, recorded: FileRecord) -> None:
        """Delete a record that the file's bytes deny, unless the file was replaced meanwhile."""
        path = recorded["path"]
        with one_writer(own_place(self._root, lock_path(path))), translated(path):
            if self._held(path) == recorded:
                self._forget(record_path(path))

    def _record(self, path: str) -> Record | None:
        """Read a record; one that cannot be read is the same as none."""
        try:
            content = read_small(own_place(self._root, record_path(path)))
        except (OSError, InvalidArgument):
            return None
        return None if content is None else Record.from_bytes(content)

    def _write_record(self, path: str, sha256: str, source: str) -> None:
        stat = (self._root / path).stat()
        record = Record.now(stat.st_size, sha256, source, stat.st_mtime)
        write_whole(own_place(self._root, record_path(path)), record.to_bytes())

    def _write_ref(self, path: str) -> None:
        """For a file in the Hugging Face cache, say which commit is its main branch."""
        reference = cache_ref(path)
        if reference is not None and read_small(own_place(self._root, reference[0])) != reference[1].encode():
            write_whole(own_place(self._root, reference[0]), reference[1].encode())

    def _empty_quarantine(self, path: str) -> None:
        """Delete the bytes that came for a file once and were wrong."""
        cell = own_place(self._root, quarantine_path(path, "")).parent
        for wrong in cell.iterdir() if cell.is_dir() else ():
            if is_quarantined(wrong.relative_to(self._root).as_posix(), path):
                self._forget(wrong.relative_to(self._root).as_posix())

    def _forget(self, path: str) -> None:
        """Delete one of comfyform's files and the folders that it leaves empty."""
        target = own_place(self._root, path)
        target.unlink(missing_ok=True)
        remove_empty_folders(target.parent, self._root)
