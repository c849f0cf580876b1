"""A file for each paid job, so that no crash of the caller loses what was paid for.

An entry is written before a job is submitted, again when RunPod named it, and
when it ended. It holds what is needed to fetch the result later: which
endpoint, which job, where the result was to go. No key and no file content.
"""

import contextlib
import json
import logging
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from backend.errors import ComfyformError, JobExpired, Unavailable
from backend.job_status import ENDED, JobStatus
from backend.request import Request
from backend.result import GeneratedFile, GenerationResult
from backend.settings import Settings

logger = logging.getLogger(__name__)

KEPT: Final = 500
"""Entries that are kept; the oldest ended ones go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One job.

    Attributes:
        key: its name here, sorted by time.
        job_id: RunPod's name for it; "" while nobody knows it.
        state: SUBMITTING, then RunPod's states.
        output_path: where the result was to go.
        backend: which backend runs it.
        params: the arguments, files by name only.
        result: a ``GenerationResult`` as JSON, once it is here.
        error: why it ended badly.
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

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON."""
        return asdict(self)

    def age_s(self) -> float:
        """Tell how long ago it was submitted; an entry that does not say so is old."""
        if not self.submitted_at:
            return math.inf
        return (datetime.now(UTC) - datetime.fromisoformat(self.submitted_at)).total_seconds()


class Journal:
    """The entries, a JSON file each.

    Args:
        folder: where; made on first use. One that cannot be written is logged, and stops no job.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
    ) -> Entry:
        """Write down that a job is about to be submitted."""
        entry = Entry(
            # To the microsecond: jobs of the same second are told newest first too.
            key=f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}",
            verb=verb,
            endpoint_id=endpoint_id,
            submitted_at=now(),
            seed=seed,
            output_path=None if output_path is None else str(output_path.absolute()),
            params=params,
            backend=backend,
        )
        return self.write(entry)

    def write(self, entry: Entry, **changes: Any) -> Entry:
        """Write an entry with changes, whole or not at all, and give it back."""
        entry = replace(entry, updated_at=now(), **changes)
        path = self.folder / f"{entry.key}.json"
        aside = path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside.write_text(json.dumps(entry.to_json(), ensure_ascii=False, indent=1), "utf-8")
            aside.replace(path)
        except OSError as error:
            logger.warning("The journal entry %s cannot be written: %s", path, error.strerror)
        return entry

    def entries(self) -> list[Entry]:
        """Give all entries, newest first. One that cannot be read is left out."""
        found = []
        for path in sorted(self.folder.glob("*.json"), reverse=True):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append(_read(path))
        return found

    def find(self, name: str) -> Entry | None:
        """Give the entry of a job id or of a key, or None."""
        if re.fullmatch(r"[\w-]+", name) and (path := self.folder / f"{name}.json").is_file():
            with contextlib.suppress(OSError, ValueError, TypeError):
                return _read(path)
        return next((entry for entry in self.entries() if entry.job_id == name), None)

    def prune(self, keep: int = KEPT) -> None:
        """Drop the oldest entries whose job has ended."""
        for entry in self.entries()[keep:]:
            if entry.state not in ("SUBMITTING", "IN_QUEUE", "IN_PROGRESS"):
                (self.folder / f"{entry.key}.json").unlink(missing_ok=True)


class Record:
    """A job's journal entry, kept up to date as the job goes on."""

    def __init__(self, journal: Journal, entry: Entry) -> None:
        self._journal = journal
        self.entry = entry
        self.last: JobStatus | None = None

    def __call__(self, job: JobStatus) -> None:
        """Note an answer; written only when the job has a new name or state."""
        self.last = job
        if (job.id, job.state) != (self.entry.job_id, self.entry.state):
            self.entry = self._journal.write(self.entry, job_id=job.id, state=job.state)

    def ended(self, error: BaseException) -> None:
        """Note how it ended badly, or that nobody knows."""
        state = self.entry.state
        if not self.entry.job_id:
            # Only a definite no, or a request that never left, is certainly not in the queue.
            refused = isinstance(error, ComfyformError) and not (
                isinstance(error, Unavailable) and error.sent
            )
            state = "NOT_SUBMITTED" if refused else "UNKNOWN"
        elif isinstance(error, JobExpired) and state not in ENDED:
            state = "EXPIRED"
        self.entry = self._journal.write(self.entry, state=state, error=str(error) or type(error).__name__)

    def done(self, result: GenerationResult) -> None:
        """Note where the result is."""
        self.entry = self._journal.write(
            self.entry, state="COMPLETED", result=result.to_json(), error=result.error
        )


def for_journal(request: Request) -> dict[str, Any]:
    """The arguments as the journal keeps them: files by name, no graph."""
    return {name: _by_name(value) for name, value in request.given.items() if name != "graph"}


def _by_name(value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case GeneratedFile():
            return f"{value.filename} of {value.origin or 'an earlier result'}"
        case dict():
            return {name: _by_name(item) for name, item in value.items()}
    return value


def _read(path: Path) -> Entry:
    value = json.loads(path.read_text("utf-8"))
    known = {spec.name for spec in fields(Entry)}
    return Entry(**{name: item for name, item in value.items() if name in known})


def state_folder(settings: Settings) -> Path:
    """Where this user's comfyform keeps its state."""
    if settings.comfyform_state_dir:
        return Path(settings.comfyform_state_dir).expanduser()
    import platformdirs

    return Path(platformdirs.user_state_path("comfyform"))


def now() -> str:
    """Give the time as entries are dated: UTC, text that sorts."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
