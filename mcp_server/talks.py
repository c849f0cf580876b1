"""``talk`` as two jobs in a row, for a backend that has no one job for it.

They are written down between them, so that another server can go on:
``backend.talk`` runs both within one call. A call here ends when its client's
patience does, and the server may end before the speech is there; then the
speech would be paid for and the film never begun. Of several servers that go on
with one talk, one submits the film.
"""

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backend.errors import JobCancelled, JobFailed
from backend.result import GenerationResult
from mcp_server.watch import OnProgress

if TYPE_CHECKING:
    from backend.interface import ResumableFlows
    from mcp_server.studio import Studio


TURN_S: Final = 0.1
"""How often a server that is not the one to submit looks whether it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """One talk.

    Attributes:
        job: its handle, ``talk-…``.
        backend: where both jobs run.
        params: the arguments, paths as text.
        begun_at: UTC, as the journal writes it.
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

    async def begin(self, flows: "ResumableFlows", params: Mapping[str, Any]) -> Talk:
        """Submit the speech and write the talk down.

        Raises:
            ComfyformError: an argument is wrong, or the job was not taken.
        """
        from backend.request import read
        from backend.talk import parts

        speech, _ = parts(read("talk", params))
        begun_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        job = await self._studio.run(flows.submit(speech, deadline_s=self._deadline_s))
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in params.items()}
        handle = f"talk-{secrets.token_hex(6)}"
        talk = Talk(job=handle, backend=flows.name, params=plain, begun_at=begun_at, speech_job=job)
        return self._write(talk)

    async def go_on(self, flows: "ResumableFlows", talk: Talk, on_progress: OnProgress) -> GenerationResult:
        """Wait for the speech, have it spoken by the portrait, and give the film.

        Raises:
            ComfyformError: one of the two jobs failed.
        """
        from backend.request import read
        from backend.talk import parts

        _refuse_cancelled(talk)
        run = self._studio.run
        spoken: GenerationResult | None = None
        _, film_request = parts(read("talk", talk.params))
        if not talk.film_job:
            on_progress({"progress": "talk", "part": "tts"})
            spoken = await run(flows.resume(talk.speech_job, deadline_s=self._deadline_s), on_progress)
            spoken.raise_for_failure()
            film_request = replace(film_request, given={**film_request.given, "audio": spoken.files[0]})
            async with self._turn(talk) as now:
                talk = now
                if not now.film_job:
                    film_job = await run(flows.submit(film_request, deadline_s=self._deadline_s))
                    talk = self._write(replace(now, film_job=film_job))
        on_progress({"progress": "talk", "part": "lipsync"})
        place = film_request.output_path
        flow = flows.resume(talk.film_job, deadline_s=self._deadline_s, output_path=place)
        film = await run(flow, on_progress)
        return film if spoken is None else _together(spoken, film)

    def find(self, job: str) -> Talk | None:
        """Give a talk by its handle."""
        path = self._folder / f"{job}.json"
        if not re.fullmatch(r"talk-[0-9a-f]+", job) or not path.is_file():
            return None
        return Talk(**json.loads(path.read_text(encoding="utf-8")))

    def current(self, talk: Talk) -> str:
        """Give the id of the job that is running now."""
        return talk.film_job or self._submitted(talk) or talk.speech_job

    def cancel(self, talk: Talk) -> None:
        """See to it that no server goes on with it."""
        self._write(replace(talk, cancelled=True))

    @contextlib.asynccontextmanager
    async def _turn(self, talk: Talk) -> AsyncIterator[Talk]:
        """Be the only server that looks whether the film is submitted, and submits it.

        Gives the talk as it stands then. A server that dies gives up its turn with its life.

        Raises:
            JobCancelled: somebody wants no film of it meanwhile.
            JobFailed: another server died while it submitted the film, so that nobody knows its job.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self._folder / f"{talk.job}.lock", thread_local=False)
        while not lock.is_locked:
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                break
            await asyncio.sleep(TURN_S)
        try:
            now = self.find(talk.job) or talk
            _refuse_cancelled(now)
            yield now if now.film_job else replace(now, film_job=self._submitted(now, alone=True))
        finally:
            lock.release()

    def _submitted(self, talk: Talk, *, alone: bool = False) -> str:
        """Find the film's job where a server ended between submitting it and writing that down here.

        Args:
            talk: one without a film.
            alone: no other server is submitting it now.

        Raises:
            JobFailed: a server that was submitting it has ended, and nobody knows its job.
        """
        for entry in self._studio.journal.entries():
            if entry.submitted_at < talk.begun_at:
                break
            ours = entry.verb == "lipsync" and entry.output_path == talk.params["output_path"]
            if not ours or entry.state == "NOT_SUBMITTED":
                continue
            if alone and not entry.job_id:
                raise JobFailed(
                    f"A server ended while it submitted the film of {talk.job}, which is therefore not "
                    "submitted again: it could be paid for twice.",
                    job_id=talk.job,
                    hint=f"Look for it at {talk.backend}. The speech is its job {talk.speech_job}.",
                )
            return entry.job_id
        return ""

    def _write(self, talk: Talk) -> Talk:
        from ops.disk import write_whole

        text = json.dumps(asdict(talk), ensure_ascii=False, indent=1)
        write_whole(self._folder / f"{talk.job}.json", text.encode())
        return talk

    @property
    def _deadline_s(self) -> float:
        return self._studio.settings.comfyform_timeout_s


def _refuse_cancelled(talk: Talk) -> None:
    if talk.cancelled:
        raise JobCancelled(f"The talk {talk.job} was cancelled.", job_id=talk.job)


def _together(spoken: GenerationResult, film: GenerationResult) -> GenerationResult:
    """The film, with what was said and measured about its speech."""
    speech_s, film_s = (result.timings.get("total", 0.0) for result in (spoken, film))
    timings = {"tts": speech_s, "lipsync": film_s, "total": round(speech_s + film_s, 3)}
    return replace(film, warnings=(*spoken.warnings, *film.warnings), timings=timings)
