"""``talk`` as two jobs in a row, for a backend that has no one job for it.

They are written down between them, so that another server can go on:
``backend.client.talk`` runs both within one call. A call here ends when its client's
patience does, and the server may end before the speech is there; then the
speech would be paid for and the film never begun. Of several servers that go on
with one talk, one submits the film.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from backend.errors import JobCancelled, JobFailed
from backend.verbs.result import GenerationResult
from mcp_server.job_waiter import OnProgress

if TYPE_CHECKING:
    from backend.client.protocol import ResumableFlows
    from backend.jobs.journal import Entry
    from backend.verbs.request import Request
    from mcp_server.server_state import Studio


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """One talk.

    Attributes:
        job: its handle, ``talk-…``.
        backend: where both jobs run.
        params: the arguments; paths are text once they were written.
        begun_at: as the journal dates its entries.
        speech_job, film_job: the two jobs' ids; empty while they are not submitted.
        cancelled: somebody wants no film of it.
    """

    job: str
    backend: str
    params: Mapping[str, Any]
    begun_at: str
    speech_job: str = ""
    film_job: str = ""
    cancelled: bool = False


class Talks:
    """The talks of this machine, a JSON file each."""

    def __init__(self, studio: "Studio") -> None:
        self._studio = studio
        self._folder = studio.state / "talks"
        self._deadline_s = studio.settings.comfyform_timeout_s

    async def begin(self, flows: "ResumableFlows", params: Mapping[str, Any]) -> Talk:
        """Submit the speech and write the talk down.

        Raises:
            ComfyformError: an argument is wrong, or the job was not taken.
        """
        from backend.jobs.journal import now
        from backend.verbs.request import read
        from backend.verbs.talk_parts import parts

        speech, _ = parts(read("talk", params))
        begun_at = now()
        job = await self._studio.run(flows.submit(speech, deadline_s=self._deadline_s))
        handle = f"talk-{secrets.token_hex(6)}"
        talk = Talk(job=handle, backend=flows.name, params=params, begun_at=begun_at, speech_job=job)
        return self._write(talk)

    async def go_on(self, flows: "ResumableFlows", talk: Talk, on_progress: OnProgress) -> GenerationResult:
        """Wait for the speech, have it spoken by the portrait, and give the film.

        Raises:
            JobCancelled: somebody wants no film of it.
            ComfyformError: one of the two jobs failed.
        """
        from backend.verbs.request import read
        from backend.verbs.talk_parts import parts, spoken, together

        _refuse_cancelled(talk)
        run, deadline_s = self._studio.run, self._deadline_s
        _, request = parts(read("talk", talk.params))
        speech: GenerationResult | None = None
        if not talk.film_job:
            on_progress({"progress": "talk", "part": "tts"})
            speech = await run(flows.resume(talk.speech_job, deadline_s=deadline_s), on_progress)
            talk = await self._filmed(flows, talk, spoken(request, speech.raise_for_failure()))
        on_progress({"progress": "talk", "part": "lipsync"})
        flow = flows.resume(talk.film_job, deadline_s=deadline_s, output_path=request.output_path)
        film = await run(flow, on_progress)
        return film if speech is None else together(speech, film)

    def find(self, job: str) -> Talk | None:
        """Give a talk by its handle."""
        path = self._folder / f"{job}.json"
        if not re.fullmatch(r"talk-[0-9a-f]+", job) or not path.is_file():
            return None
        return Talk(**json.loads(path.read_text(encoding="utf-8")))

    def current(self, talk: Talk) -> str:
        """Give the id of the job that is running now."""
        if talk.film_job:
            return talk.film_job
        entry = self._entry_of_film(talk)
        return entry.job_id if entry is not None and entry.job_id else talk.speech_job

    def cancel(self, talk: Talk) -> None:
        """See to it that no server goes on with it."""
        self._write(replace(talk, cancelled=True))

    async def _filmed(self, flows: "ResumableFlows", talk: Talk, film: "Request") -> Talk:
        """Give the talk with its film submitted: by this server, or by another that was first.

        One server at a time looks and submits. One that dies gives up its turn with its life.

        Raises:
            JobCancelled: somebody wants no film of it meanwhile.
            JobFailed: another server died while it submitted the film, so that nobody knows its job.
        """
        from filelock import AsyncFileLock

        async with AsyncFileLock(self._folder / f"{talk.job}.lock"):
            talk = self.find(talk.job) or talk
            _refuse_cancelled(talk)
            if talk.film_job:
                return talk
            # Where a server ended between submitting it and writing that down here, the journal knows.
            entry = self._entry_of_film(talk)
            if entry is not None and not entry.job_id:
                raise JobFailed(
                    f"A server ended while it submitted the film of {talk.job}, which is therefore not "
                    "submitted again: it could be paid for twice.",
                    job_id=talk.job,
                    hint=f"Look for it at {talk.backend}. The speech is its job {talk.speech_job}.",
                )
            if entry is not None:
                return self._write(replace(talk, film_job=entry.job_id))
            job = await self._studio.run(flows.submit(film, deadline_s=self._deadline_s))
            return self._write(replace(talk, film_job=job))

    def _entry_of_film(self, talk: Talk) -> "Entry | None":
        """Find in the journal what some server submitted, or was about to, as the film."""
        for entry in self._studio.journal.entries():
            if entry.submitted_at < talk.begun_at:
                break
            ours = entry.verb == "lipsync" and entry.output_path == str(talk.params["output_path"])
            if ours and entry.state != "NOT_SUBMITTED":
                return entry
        return None

    def _write(self, talk: Talk) -> Talk:
        from ops.files.atomic import write_whole

        text = json.dumps(asdict(talk), ensure_ascii=False, indent=1, default=str)
        write_whole(self._folder / f"{talk.job}.json", text.encode())
        return talk


def _refuse_cancelled(talk: Talk) -> None:
    if talk.cancelled:
        raise JobCancelled(f"The talk {talk.job} was cancelled.", job_id=talk.job)
