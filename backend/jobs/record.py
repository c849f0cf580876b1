"""A job's entry in the journal, kept up to date from within the flow that runs the job."""

# Modules that are loaded on first use elsewhere and needed once a job is paid for: an import may fail then,
# for want of an open file. Whoever keeps a journal has them loaded before.
import base64  # noqa: F401
import binascii  # noqa: F401
import contextlib
import hashlib  # noqa: F401
import json
import logging
import reprlib  # noqa: F401
import unicodedata  # noqa: F401
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from backend.errors import ComfyformError, JobExpired, NotFound, TransferError, Unavailable
from backend.flow import Flow, work
from backend.flow.atomic_file import write_atomically
from backend.jobs.journal import Entry, Journal, now
from backend.jobs.status import ENDED, JobStatus, UnreadableAnswer
from backend.validation.checks import check_id
from backend.validation.printable import shortened, visible, without_secrets
from backend.verbs.request import Request
from backend.verbs.result import GeneratedFile, GenerationResult

logger = logging.getLogger(__name__)

MAX_ERROR_CHARS: Final = 4000
MAX_PARAM_CHARS: Final = 4000


class Record:
    """A job's journal entry. Its methods are flows, because writing touches the disk.

    Attributes:
        entry: as it was last written, or as it should have been.
        known: False while the job is neither in the journal nor answered for by its service.
        last: the latest answer about the job.
    """

    def __init__(self, journal: Journal, entry: Entry) -> None:
        self._journal = journal
        self._written = True
        self.known = True
        self.entry = entry
        self.last: JobStatus | None = None

    @classmethod
    def begin(
        cls,
        journal: Journal,
        request: Request,
        endpoint_id: str,
        *,
        backend: str,
        seed: int | None,
        usd: float | None = None,
    ) -> Flow["Record"]:
        """Write down that a job is about to be submitted, with its price in US dollars where it is known.

        Raises:
            TransferError: the journal cannot be written; then nothing may be submitted.
        """
        entry = yield from work(
            partial(
                journal.begin,
                request.verb,
                endpoint_id,
                seed=seed,
                output_path=request.output_path,
                params=for_journal(request),
                backend=backend,
                usd=usd,
            )
        )
        return cls(journal, entry)

    @classmethod
    def of(cls, journal: Journal, name: str, endpoint_id: str, *, backend: str) -> Flow["Record"]:
        """The entry of a job id or a key; of a job that is not in the journal, one that is not written yet.

        It is written with the first good answer about the job, so that an unknown job leaves nothing behind.

        Raises:
            InvalidArgument: it is not an id.
        """
        check_id(name)
        found = yield from work(partial(journal.find, name))
        record = cls(
            journal, found or Entry(key="", verb="", endpoint_id=endpoint_id, job_id=name, backend=backend)
        )
        record.known = found is not None
        return record

    def needed_id(self) -> str:
        """The service's name for the job.

        Raises:
            NotFound: no answer gave one, and the service has no list in which the job could be looked for.
        """
        if not self.entry.job_id:
            raise NotFound(
                f"No answer to the submission of job {self.entry.key} was seen, so its id is not known.",
                hint=f"Look at the list of jobs of {self.entry.endpoint_id} before you run it again.",
            )
        return self.entry.job_id

    def note(self, job: JobStatus) -> Flow[None]:
        """Note an answer; written when the job has a new name or state, or the last write failed."""
        self.last = job
        if not self.known:
            self.known, known = True, self.entry
            begin = partial(
                self._journal.begin, known.verb, known.endpoint_id, seed=None, output_path=None, params={},
                backend=known.backend, job_id=job.id, state=job.state,
            )  # fmt: skip
            with contextlib.suppress(TransferError):
                self.entry = yield from work(begin)
        if not self._written or (job.id, job.state) != (self.entry.job_id, self.entry.state):
            yield from self._write(job_id=job.id, state=job.state)

    def submitted(self, submission: Flow[str]) -> Flow[str]:
        """Submit the job, write down its id or how the submission failed, and return the id."""
        try:
            job_id = yield from submission
        except BaseException as error:
            yield from self.ended(error)
            raise
        yield from self.note(JobStatus(id=job_id, state="IN_QUEUE"))
        return job_id

    def ended(self, error: BaseException) -> Flow[None]:
        """Record how it failed, or that its end is unknown. The job's id goes into the error."""
        if not self.known:
            return
        state = self.entry.state
        if not self.entry.job_id:
            # Only a definite no, or a request that never left, is certainly not in the queue.
            refused = isinstance(error, ComfyformError) and not (
                isinstance(error, Unavailable) and error.sent
            )
            state = "NOT_SUBMITTED" if refused else "UNKNOWN"
        elif isinstance(error, JobExpired) and state not in ENDED:
            state = "EXPIRED"
        if isinstance(error, ComfyformError) and error.job_id is None and self.entry.job_id:
            error.job_id = self.entry.job_id
        if isinstance(error, UnreadableAnswer) and error.content:
            place = yield from self.keep_answer(error.content)
            error.content = b""
            error.hint = f"The last one is kept as {place}." if place else None
        sentence = shortened(without_secrets(str(error) or type(error).__name__), MAX_ERROR_CHARS)
        if isinstance(error, GeneratorExit):
            # The flow is closed, not driven: no further step would be performed.
            self.entry = replace(self.entry, state=state, error=sentence, updated_at=now())
            self._written = self._journal.try_write(self.entry)
            return
        yield from self._write(state=state, error=sentence)

    def done(self, result: GenerationResult) -> Flow[None]:
        """Note where the result is."""
        # Whole, with its addresses: they are what the result can be fetched by once more.
        yield from self._write(state="COMPLETED", result=result.to_json(), error=result.error)

    def keep_answer(self, answer: Any) -> Flow[Path | None]:
        """Keep an answer beside the journal whose result cannot be read; None where that fails too."""
        place = self._journal.folder.parent / "answers" / f"{self.entry.key}.json"
        return (yield from work(partial(_keep, answer, place)))

    def _write(self, **changes: Any) -> Flow[None]:
        self.entry = replace(self.entry, updated_at=now(), **changes)
        self._written = yield from work(partial(self._journal.try_write, self.entry))


def _keep(answer: Any, place: Path) -> Path | None:
    content = answer if isinstance(answer, bytes) else json.dumps(answer, indent=1, default=str).encode()
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(place, content)
    except OSError as error:
        logger.warning("The answer cannot be kept as %s: %s", place, error.strerror)
        return None
    return place


def for_journal(request: Request) -> dict[str, Any]:
    """The arguments as the journal keeps them: files by name, addresses without their query, no graph."""
    return {name: _by_name(value) for name, value in request.given.items() if name != "graph"}


def _by_name(value: Any) -> Any:
    match value:
        case Path():
            return visible(str(value))
        case GeneratedFile():
            return f"{value.filename} of {value.origin or 'an earlier result'}"
        case Mapping():
            return {str(name): _by_name(item) for name, item in value.items()}
        case list() | tuple():
            return [_by_name(item) for item in value]
        case str():
            return shortened(without_secrets(value), MAX_PARAM_CHARS)
    return value
