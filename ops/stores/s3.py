"""Model files on a network volume, over RunPod's S3 and through this machine; it needs no worker.

A file from the internet is fetched into a folder of this machine first, and
its hash is checked there. Both ways can be continued after a kill: the fetch by
its journal, the upload by its parts.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from backend.contract import FileRecord, ProvisionedFile, WantedFile
from backend.errors import ComfyformError, HashMismatch, TransferError, VolumeFull
from ops.download.chunked import Fetched
from ops.download.partial_file import Partial
from ops.download.verified import Wish, fetch
from ops.files.atomic import need_room, one_writer, translated
from ops.files.model_content import ALLOW_PICKLE, examine
from ops.files.sha256 import hash_file
from ops.local.model_dirs import Locate
from ops.models.inventory import Inventory
from ops.models.record import Record
from ops.models.source_url import LocalSource, parse
from ops.models.volume_layout import (
    cache_ref,
    check_held_path,
    check_wanted_path,
    is_quarantined,
    lock_path,
    partial_path,
    quarantine_path,
    record_path,
    spellings,
)
from ops.sources.origins import Sources
from ops.stores.adoption import announced, fetched_file, place_aside
from ops.stores.model_store import FileByFile, OnProgress, Removal, ignore_progress
from ops.stores.s3_client import MOST_COPIED, Bucket, Stored
from ops.stores.s3_listing import describe_stored, list_elsewhere, list_files, unrecorded
from ops.stores.s3_upload import PART_BYTES, Parcel, UploadNote, drop_upload, upload
from ops.threads.retry import PACE, Pace


class S3Store(FileByFile):
    """Model files in a volume's bucket.

    Args:
        bucket: the volume.
        sources: where files come from.
        staging: a folder of this machine for files on their way and notes of uploads.
        locate: finds the models of this machine, which ``local:`` sources name.
        capacity_bytes: the volume's size, where it is known; the gateway does not say.
        pace: how hard a fetch tries.
        part_bytes: size of an uploaded part.
    """

    def __init__(
        self,
        bucket: Bucket,
        sources: Sources,
        *,
        staging: Path,
        locate: Locate,
        capacity_bytes: int | None = None,
        pace: Pace = PACE,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._bucket = bucket
        self._sources = sources
        self._staging = staging
        self._locate = locate
        self._capacity = capacity_bytes
        self._pace = pace
        self._part_bytes = part_bytes

    def inventory(self, *, hash: bool = False, on_progress: OnProgress = ignore_progress) -> Inventory:  # noqa: A002
        """List every model file; see `ops.stores.model_store.ModelStore`. Hashing downloads every byte."""
        held, elsewhere = list_files(self._bucket)
        for record in held:
            self._drop_superseded(record)
        if hash:
            held = [self._hashed(record, on_progress) for record in held]
        used = sum(record["size_bytes"] for record in held)
        free = None if self._capacity is None else max(0, self._capacity - used)
        return Inventory.of(held, total_bytes=self._capacity, free_bytes=free, elsewhere=elsewhere)

    def remove(self, paths: Sequence[str]) -> Removal:
        """Delete these files and their records; see `ops.stores.model_store.ModelStore`."""
        removed: list[str] = []
        missing: list[str] = []
        for path in paths:
            with one_writer(self._staging / "sending" / lock_path(check_held_path(path))):
                there = self._bucket.head(path) is not None
                # The record goes first: it must never speak of a file that is gone.
                self._bucket.delete(record_path(path))
                self._bucket.delete(path)
                self._clear(path)
            (removed if there else missing).append(path)
        return Removal(tuple(removed), tuple(missing))

    def _clear(self, path: str) -> None:
        """Delete what an earlier run left of a file, here and there, and bytes of it in quarantine."""
        self._drop_upload(path)
        self._empty_quarantine(path)
        for entry in self._bucket.list(quarantine_path(path, "")):
            if is_quarantined(entry.key, path):
                self._bucket.delete(entry.key)

    def _drop_superseded(self, record: FileRecord) -> None:
        """Drop what was sent, and is kept here, of bytes that got to the volume another way."""
        path, sha256 = record["path"], record["sha256"]
        note, identity = (
            UploadNote.read(self._note(path)),
            Partial(self._staging / partial_path(path)).identity,
        )
        if sha256 and sha256 in (note and note.sha256, identity and identity.sha256):
            self._drop_upload(path)

    def _drop_upload(self, path: str) -> None:
        """Drop what was sent and what is kept on this machine of a file that needs it no more."""
        if self._note(path).exists():
            drop_upload(path, self._bucket, self._note(path))
        Partial(self._staging / partial_path(path)).discard()

    def _empty_quarantine(self, path: str) -> None:
        """Delete bytes on this machine that came for a file and were wrong."""
        folder = (self._staging / quarantine_path(path, "")).parent
        for wrong in folder.iterdir() if folder.is_dir() else ():
            if is_quarantined(wrong.relative_to(self._staging).as_posix(), path):
                wrong.unlink(missing_ok=True)

    def _note(self, path: str) -> Path:
        """Where an upload of a file is noted on this machine."""
        return self._staging / "uploads" / f"{path}.json"

    def _provision(self, wanted: WantedFile, on_progress: OnProgress) -> ProvisionedFile:
        """Make one file be there."""
        path = check_wanted_path(wanted["path"])
        # One process of this machine; of two machines both send the file, and its bytes are right.
        with one_writer(self._staging / "sending" / lock_path(path)):
            held = self._held(path)
            return self._keep(wanted, held, on_progress) or self._send(wanted, held, on_progress)

    def _announced(self, wanted: WantedFile) -> WantedFile:
        """Add what is known of the wanted bytes: from the source, or from this machine's own file."""
        source = parse(wanted["source"])
        if not isinstance(source, LocalSource) or wanted.get("sha256"):
            return announced(wanted, self._sources)
        file = self._locate().need(source, path=wanted["path"])
        with translated(str(file)):
            return {**wanted, "size_bytes": file.stat().st_size, "sha256": hash_file(file)}

    def _drop_attempts(self, path: str) -> None:
        """Delete what a run left that died between the file and its record."""
        self._drop_upload(path)

    def _others(self, path: str) -> list[FileRecord]:
        spelled = [self._bucket.head(spelling) for spelling in spellings(path)[1:]]
        found = [*(one for one in spelled if one is not None), *self._elsewhere]
        return [unrecorded(one) for one in found if one.size_bytes <= MOST_COPIED]

    @cached_property
    def _elsewhere(self) -> list[Stored]:
        """The files in other places, as they were when this store first asked; each is looked at again."""
        return list_elsewhere(self._bucket)

    def _move(self, other: FileRecord, path: str) -> bool:
        lock = self._staging / "sending" / lock_path(other["path"])
        same = lock_path(other["path"]) == lock_path(path)
        with contextlib.nullcontext() if same else one_writer(lock):
            there = self._bucket.head(other["path"])
            if there is None or there.size_bytes != other["size_bytes"]:
                return False
            self._bucket.copy(other["path"], path, other["size_bytes"])
            self._bucket.delete(record_path(other["path"]))
            self._bucket.delete(other["path"])
        return True

    def _send(self, wanted: WantedFile, held: FileRecord | None, on_progress: OnProgress) -> ProvisionedFile:
        """Send the file from where it is, and write its record last."""
        path = wanted["path"]
        aside = None if held is None or held["sha256"] else place_aside(path)
        if aside is not None and held is not None:
            # The gateway replaces a file only by writing over it, so its copy must exist before.
            self._bucket.copy(path, aside, held["size_bytes"])
        try:
            # Until its own record is written, what is sent has none.
            self._bucket.delete(record_path(path))
            source = parse(wanted["source"])
            if isinstance(source, LocalSource):
                sent = self._send_local(wanted, source, held, on_progress)
            else:
                sent = self._send_fetched(wanted, held, on_progress)
        except BaseException:
            self._drop_copy(path, aside, held)
            raise
        self._write_record(path, sent.sha256, wanted["source"])
        self._write_ref(path)
        return fetched_file(path, sent, aside)

    def _drop_copy(self, path: str, aside: str | None, held: FileRecord | None) -> None:
        """Delete the copy of a file that was not replaced after all."""
        if aside is None or held is None:
            return
        with contextlib.suppress(ComfyformError):
            now = self._held(path)
            if now is not None and now["size_bytes"] == held["size_bytes"] and not now["sha256"]:
                self._bucket.delete(aside)

    def _send_local(
        self, wanted: WantedFile, source: LocalSource, held: FileRecord | None, on_progress: OnProgress
    ) -> Fetched:
        """Send a file that exists only here."""
        file = self._locate().need(source, path=wanted["path"])
        with translated(str(file)):
            finding = examine(file, wanted["path"], allow_pickle=wanted.get("allow_pickle", False))
            if finding.problem is not None:
                whole = "Put the whole file there, or remove its entry from the registry."
                raise TransferError(
                    f"{file} is not sent: {finding.problem}.",
                    path=wanted["path"],
                    hint=ALLOW_PICKLE if finding.pickled else whole,
                )
            size, sha256 = file.stat().st_size, hash_file(file)
        expected = wanted.get("sha256")
        if expected is not None and expected != sha256:
            raise HashMismatch(
                f"{file} has sha256 {sha256} instead of {expected}.",
                path=wanted["path"],
                expected=expected,
                actual=sha256,
                hint="Correct the sha256 in the registry (inv models.lock), or put the right file there.",
            )
        self._need_room(wanted["path"], size, held)
        return self._upload(Parcel(file, wanted["path"], size, sha256), on_progress)

    def _send_fetched(self, wanted: WantedFile, held: FileRecord | None, on_progress: OnProgress) -> Fetched:
        """Fetch a file from its source into the staging folder, and send it from there."""
        path, size = wanted["path"], wanted.get("size_bytes")
        if size is not None:
            self._need_room(path, size, held)
        partial = self._staging / partial_path(path)

        def need(left: int) -> None:
            self._need_room(path, left, held)
            with translated(str(partial)):
                partial.parent.mkdir(parents=True, exist_ok=True)
            need_room(partial.parent, left, path=path)

        ready = fetch(
            Wish.of(wanted),
            self._sources,
            partial=partial,
            quarantine=lambda sha256: self._staging / quarantine_path(path, sha256),
            need_room=need,
            on_progress=on_progress,
            pace=self._pace,
        )
        self._need_room(path, ready.size_bytes, held)
        self._upload(Parcel(partial, path, ready.size_bytes, ready.sha256), on_progress)
        ready.held.discard()
        self._empty_quarantine(path)
        return Fetched(ready.size_bytes, ready.sha256, ready.fetched_bytes)

    def _upload(self, parcel: Parcel, on_progress: OnProgress) -> Fetched:
        """Send a file whose bytes are known to be right."""
        sent = upload(
            parcel,
            self._bucket,
            note=self._note(parcel.key),
            on_bytes=lambda done, total: on_progress(
                {"progress": "provision", "path": parcel.key, "done_bytes": done, "total_bytes": total}
            ),
            part_bytes=self._part_bytes,
        )
        return Fetched(parcel.size_bytes, parcel.sha256, sent)

    def _need_room(self, path: str, size_bytes: int, held: FileRecord | None) -> None:
        """Refuse before the first byte what the volume cannot hold; the gateway would find out late."""
        if self._capacity is None:
            return
        used = sum(entry.size_bytes for entry in self._bucket.list(""))
        free = self._capacity - used + (held["size_bytes"] if held else 0)
        if size_bytes > free:
            raise VolumeFull(
                f"{path} needs {size_bytes:,} bytes; {max(free, 0):,} are free on {self._bucket.name}.",
                path=path,
                hint="Grow the volume or remove models from it.",
            )

    def _held(self, path: str) -> FileRecord | None:
        stored = self._bucket.head(path)
        return None if stored is None else describe_stored(self._bucket, stored)

    def _hashed(self, held: FileRecord, on_progress: OnProgress) -> FileRecord:
        """Read a file through this machine and say what its hash is now."""
        digest, done = hashlib.sha256(), 0
        for chunk in self._bucket.stream(held["path"]):
            digest.update(chunk)
            done += len(chunk)
            on_progress(
                {
                    "progress": "provision",
                    "path": held["path"],
                    "done_bytes": done,
                    "total_bytes": held["size_bytes"],
                }
            )
        return FileRecord(
            path=held["path"],
            size_bytes=done,
            sha256=digest.hexdigest(),
            how="hashed",
            source=held.get("source"),
        )

    def _disown(self, recorded: FileRecord) -> None:
        """Delete a record that the file's bytes deny, unless the file was replaced meanwhile."""
        if self._held(recorded["path"]) == recorded:
            self._bucket.delete(record_path(recorded["path"]))

    def _write_record(self, path: str, sha256: str, source: str) -> None:
        stored = self._bucket.head(path)
        if stored is None:
            raise TransferError(f"{path} is no longer on volume {self._bucket.name}.", path=path)
        record = Record.now(stored.size_bytes, sha256, source, stored.modified_s)
        self._bucket.write(record_path(path), record.to_bytes())

    def _write_ref(self, path: str) -> None:
        """For a file in the Hugging Face cache, say which commit is its main branch."""
        reference = cache_ref(path)
        if reference is not None and self._bucket.read(reference[0]) != reference[1].encode():
            self._bucket.write(reference[0], reference[1].encode())
