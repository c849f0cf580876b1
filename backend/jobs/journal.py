"""The jobs of this machine, so that no crash of a caller loses what was paid for.

An entry is written before a job is submitted, again when the service named it,
and when it ended. It holds what is needed to fetch the result later: which
endpoint, which job, where the result was to go. It holds no key, no file
content, and no query of an address, which may be a signature.
"""

import errno
import logging
import math
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from backend.errors import InvalidArgument, TransferError, VolumeFull
from backend.jobs.journal_database import JournalDatabase, Row
from backend.settings import Settings
from backend.validation.checks import check_id, is_id
from backend.validation.json_reader import as_count, as_number, as_object, as_text
from backend.validation.user_paths import user_path

logger = logging.getLogger(__name__)

KEPT: Final = 500
"""Entries that are kept; older ones go, once their job needs nothing more."""
OPEN_DAYS: Final = 30
"""Age at which an entry is closed whose result was never fetched.

A job waits and runs for at most 7 days each, and RunPod keeps its result for half an hour after that.
"""
_CLOSED_AT_ONCE: Final = 200
"""Entries that one call closes for their age, so that no call takes long."""
OPEN_STATES: Final = frozenset({"SUBMITTING", "UNKNOWN", "IN_QUEUE", "IN_PROGRESS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One job.

    Attributes:
        key: its name here, sorted by time; the job carries it as ``journal_key``.
        job_id: the service's name for it; "" while no answer gave one.
        state: SUBMITTING, then RunPod's states; UNKNOWN where no answer to its submission was seen.
        output_path: where the result was to go.
        backend: which backend runs it.
        params: the arguments, files by name only.
        result: a ``GenerationResult`` as JSON, once it is here.
        error: why it ended badly.
        usd: what the service charged for it, where the service says so.
    """

    key: str
    verb: str
    endpoint_id: str
    job_id: str = ""
    state: str = "SUBMITTING"
    submitted_at: str = ""
    updated_at: str = ""
    seed: int | None = None
    output_path: str | None = None
    backend: str = "runpod"
    params: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    error: str | None = None
    usd: float | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Entry":
        """Read what `to_json` gave. A field of another type counts as not there.

        Raises:
            InvalidArgument: it names no job.
        """
        texts = {
            name: as_text(value.get(name)) for name in ("verb", "endpoint_id", "submitted_at", "updated_at")
        }
        job_id = value.get("job_id")
        return cls(
            key=check_id(value.get("key"), "journal key"),
            job_id=job_id if isinstance(job_id, str) and is_id(job_id) else "",
            state=as_text(value.get("state")) or "UNKNOWN",
            seed=as_count(value.get("seed")),
            output_path=as_text(value.get("output_path")) or None,
            backend=as_text(value.get("backend")) or "runpod",
            params=as_object(value.get("params")),
            result=as_object(value.get("result")) or None,
            error=as_text(value.get("error")) or None,
            usd=as_number(value.get("usd")),
            **texts,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @property
    def open(self) -> bool:
        """True while its result may still come, or waits to be fetched."""
        return self.state in OPEN_STATES or (self.state == "COMPLETED" and self.result is None)

    def age_s(self) -> float:
        """Tell how long ago it was submitted; an entry that does not say so is old."""
        try:
            return (datetime.now(UTC) - datetime.fromisoformat(self.submitted_at)).total_seconds()
        except (ValueError, TypeError):
            return math.inf


class Journal:
    """The entries. Its calls touch the disk, so a flow makes them within ``work``.

    Args:
        folder: where; made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = JournalDatabase(folder, lambda value: _row(Entry.from_json(value)))

    @classmethod
    def from_settings(cls, settings: Settings) -> "Journal":
        """Use the user's state folder, or ``COMFYFORM_STATE_DIR``."""
        return cls(state_folder(settings) / "jobs")

    def begin(
        self,
        verb: str,
        endpoint_id: str,
        *,
        seed: int | None,
        output_path: Path | None,
        params: Mapping[str, Any],
        backend: str = "runpod",
        **known: Any,
    ) -> Entry:
        """Write down that a job is about to be submitted, and drop what is no longer needed.

        Raises:
            TransferError: it cannot be written; then nothing may be submitted.
        """
        entry = Entry(
            # To the microsecond: jobs of the same second are listed newest first too.
            key=f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}",
            verb=verb,
            endpoint_id=endpoint_id,
            submitted_at=now(),
            updated_at=now(),
            seed=seed,
            output_path=None if output_path is None else str(output_path.absolute()),
            params=params,
            backend=backend,
            **known,
        )
        try:
            self._database.put([_row(entry)])
            self.prune()
        except (OSError, sqlite3.Error) as error:
            raise self._not_written(error) from error
        return entry

    def write(self, entry: Entry, **changes: Any) -> Entry:
        """Write an entry with changes, whole or not at all, and give it back. Raises nothing."""
        entry = replace(entry, updated_at=now(), **changes)
        self.try_write(entry)
        return entry

    def try_write(self, entry: Entry) -> bool:
        """Write an entry; False, and a warning that names the job, where the disk does not take it."""
        try:
            self._database.put([_row(entry)])
        except (OSError, sqlite3.Error, ValueError, TypeError, RecursionError) as error:
            job = f"job {entry.job_id}" if entry.job_id else "its job"
            logger.warning(
                "The journal entry %s (%s, %s) cannot be written: %s",
                entry.key,
                job,
                entry.state,
                _reason(error),
            )
            return False
        return True

    def count(self) -> int:
        """Return the number of entries."""
        number: int = self._read(self._database.count, 0)
        return number

    def entries(self, limit: int | None = None, *, skip: int = 0) -> list[Entry]:
        """Return the entries, newest first. One that cannot be read is left out, with a warning.

        Args:
            limit: how many at most; None for all.
            skip: how many of the newest are left out.
        """
        found = []
        for value in self._read(lambda: self._database.newest(limit, skip), []):
            try:
                found.append(Entry.from_json(value))
            except InvalidArgument as error:
                logger.warning("%s: an entry is left out. %s", self._database.path, error)
        return found

    def find(self, name: str) -> Entry | None:
        """Return the entry of a job id or of a key, or None."""
        if not is_id(name):
            return None
        value = self._read(lambda: self._database.get(name), None)
        try:
            return None if value is None else Entry.from_json(value)
        except InvalidArgument:
            return None

    def prune(self, keep: int = KEPT) -> None:
        """Delete the oldest entries whose job needs nothing more, and close those that are open for too long.

        Raises:
            OSError, sqlite3.Error: the disk does not let it.
        """
        limit = datetime.now(UTC) - timedelta(days=OPEN_DAYS)
        old = [Entry.from_json(value) for value in self._database.open_before(_stamp(limit), _CLOSED_AT_ONCE)]
        if old:
            self._database.put([_row(_closed(entry)) for entry in old])
        self._database.prune(keep)

    def _read(self, query: Any, empty: Any) -> Any:
        try:
            return query()
        except (OSError, sqlite3.Error) as error:
            logger.warning("The journal %s cannot be read: %s", self._database.path, _reason(error))
            return empty

    def _not_written(self, error: Exception) -> TransferError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT)
        return (VolumeFull if full else TransferError)(
            f"The journal {self._database.path} cannot be written ({_reason(error)}). Nothing was submitted.",
            path=str(self._database.path),
            hint="Free some space, or set COMFYFORM_STATE_DIR to a folder that can be written.",
        )


def _row(entry: Entry) -> Row:
    return entry.key, entry.job_id, entry.open, entry.submitted_at, entry.to_json()


def _closed(entry: Entry) -> Entry:
    age = f"Closed after {OPEN_DAYS} days"
    if entry.job_id:
        error = f"{age}: its result was not fetched, and the service no longer has it."
    else:
        error = f"{age}: no answer to its submission was seen."
    return replace(entry, state="EXPIRED", error=entry.error or error, updated_at=now())


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")


def state_folder(settings: Settings) -> Path:
    """Where this user's comfyform keeps its state."""
    if settings.comfyform_state_dir:
        return user_path(settings.comfyform_state_dir, "COMFYFORM_STATE_DIR")
    import platformdirs

    return Path(platformdirs.user_state_path("comfyform"))


def now() -> str:
    """Return the time as entries are dated: UTC, text that sorts."""
    return _stamp(datetime.now(UTC))


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
