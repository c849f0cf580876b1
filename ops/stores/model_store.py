"""A place that holds model files, and what can be done to it.

The three stores answer the same four calls with the same shapes:

* ``FolderStore(root, sources)`` in ``ops.stores.directory``: a directory, as a worker sees its volume;
* ``S3Store`` in ``ops.stores.s3``: a network volume over RunPod's S3, through this machine;
* ``JobStore`` in ``ops.stores.worker_jobs``: a network volume through the ops endpoint's worker.

Signatures that others build on, and that stay::

    Sources.from_settings(settings, http)                                     ops.sources.origins
    FolderStore(root: Path, sources: Sources, *, capacity_bytes=None)         ops.stores.directory
    open_store(settings, http, *, transport="job" | "s3", endpoint_id=None,
               volume_id=None, data_center=None) -> ModelStore                ops.stores.open
    store.inventory(*, hash=False, on_progress=…) -> Inventory
    store.provision(wanted, *, on_progress=…) -> list[ProvisionedFile]
    store.verify(wanted, *, deep=False, on_progress=…) -> list[VerifiedFile]
    store.remove(paths) -> Removal

Callers (``ops.sync.apply``, ``infra``, ``worker``) hold a `ModelStore` and do not care which.
The shapes are the job contract's own (``backend.contract``), so that nothing is
translated between a job and a store. Paths are from the volume root, POSIX.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from backend.contract import FileRecord, ProvisionedFile, ProvisionProgress, VerifiedFile, WantedFile
from backend.errors import ComfyformError, PartialApply
from ops.models.inventory import Inventory
from ops.models.other_places import candidates
from ops.models.record import judge, verdict
from ops.models.volume_layout import check_held_path, spellings
from ops.stores.adoption import check_other_place, same_bytes

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
    """A place that holds model files.

    Attributes:
        removes_together: many removals cost less in one call.
    """

    removes_together: bool

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
            deep: read and hash the bytes where they lie, instead of trusting the records. A record that
                turns out wrong is deleted, so that the file is read again before it is trusted.
            on_progress: called while hashing.
        """
        ...

    def remove(self, paths: Sequence[str]) -> Removal:
        """Delete these files and their records; a missing file is not an error."""
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

    removes_together = False

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
            spelled = map(self._held, spellings(check_held_path(file["path"])))
            held = next((one for one in spelled if one is not None), None)
            if deep and held:
                recorded, held = held, self._hashed(held, on_progress)
                if recorded["sha256"] not in (None, held["sha256"]):
                    self._disown(recorded)
            answers.append(verdict(file, held))
        return answers

    def _keep(
        self, wanted: WantedFile, held: FileRecord | None, on_progress: OnProgress
    ) -> ProvisionedFile | None:
        """Leave the file that is there, or move it there from another place, when it is the right one."""

        def read(one: FileRecord) -> FileRecord:
            return self._hashed(one, on_progress)

        check_other_place(wanted)
        path, moved_from = wanted["path"], ""
        if held is None or not held["sha256"]:
            # Other hands put it there, or a writer died between the file and its record.
            held = (
                self._moved(wanted, read) if held is None else same_bytes(self._announced(wanted), held, read)
            )
            if held is None:
                return None
            moved_from = held["path"] if held["path"] != path else ""
            self._write_record(path, held["sha256"] or "", wanted["source"])
            self._drop_attempts(path)
        if not held["sha256"] or judge(wanted, held)[0] != "right":
            return None
        self._write_ref(path)
        kept = ProvisionedFile(
            path=path, status="kept", size_bytes=held["size_bytes"], sha256=held["sha256"], fetched_bytes=0
        )
        if moved_from:
            kept["moved_from"] = moved_from
        return kept

    def _moved(self, wanted: WantedFile, read: Callable[[FileRecord], FileRecord]) -> FileRecord | None:
        """Move a file with the wanted bytes from another place on the volume, and return its record there."""
        others = self._others(wanted["path"])
        if not others:
            return None
        announced = self._announced(wanted)
        for other in candidates(announced, others):
            found = same_bytes(announced, other, read)
            if found is not None and self._move(other, wanted["path"]):
                return found
        return None

    @abstractmethod
    def _announced(self, wanted: WantedFile) -> WantedFile:
        """Add what is known of a wanted file's bytes; see `ops.stores.adoption.announced`."""

    @abstractmethod
    def _others(self, path: str) -> list[FileRecord]:
        """List the files, without their records, that may be moved to a model file's place."""

    @abstractmethod
    def _move(self, other: FileRecord, path: str) -> bool:
        """Move a file to a model file's place; False where it is gone meanwhile."""

    @abstractmethod
    def _write_record(self, path: str, sha256: str, source: str) -> None:
        """Write down what a file is."""

    @abstractmethod
    def _write_ref(self, path: str) -> None:
        """For a file in the Hugging Face cache, say which commit is its main branch."""

    @abstractmethod
    def _drop_attempts(self, path: str) -> None:
        """Delete what an earlier attempt left of a file that is there now."""

    @abstractmethod
    def _provision(self, wanted: WantedFile, on_progress: OnProgress) -> ProvisionedFile:
        """Make one file be there."""

    @abstractmethod
    def _held(self, path: str) -> FileRecord | None:
        """Return what is there under a path, by its record."""

    @abstractmethod
    def _hashed(self, held: FileRecord, on_progress: OnProgress) -> FileRecord:
        """Read a file and return its record with the hash of its bytes."""

    @abstractmethod
    def _disown(self, recorded: FileRecord) -> None:
        """Delete a record that the file's bytes deny, so that whoever provisions the file next reads it."""
