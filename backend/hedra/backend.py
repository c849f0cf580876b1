"""The hedra backend: talking heads, pictures and speech by Hedra's API v3, a paid service.

It has models of its own and no ComfyUI: no workflow, no voice from a sample, no
cancel. What a model takes is read from the schema that Hedra publishes for it.
The price is asked for before every job, and the job is in the journal from
before it is submitted until its result is here.

Source: Hedra API v3, spec 3.9.0 to 3.17.8 and developer documentation of October 2026.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from backend.errors import (
    ApiError,
    ComfyformError,
    ConfigError,
    Forbidden,
    InvalidJson,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    NotFound,
    NotSupported,
    Unavailable,
    WaitTimeout,
)
from backend.files.deliver import deliver, journal_again, result_of
from backend.flow import Download, Flow, Progress, Send, ask, check, download, send
from backend.hedra.inputs import OTHERS, HedraInputs
from backend.jobs.journal import Journal
from backend.jobs.polling import wait_until_ended
from backend.jobs.record import Record
from backend.jobs.status import JobStatus, State
from backend.settings import Settings
from backend.validation.checks import check_id, is_id, media_suffix
from backend.validation.json_reader import as_number, as_object, as_text, needed_text, objects_in, shape_of
from backend.validation.printable import quoted
from backend.verbs.media_kind import kind_of
from backend.verbs.request import Request
from backend.verbs.result import GeneratedFile, GenerationResult, Health

STATES: Final[Mapping[str, State]] = {
    "IN_QUEUE": "IN_QUEUE",
    "IN_PROGRESS": "IN_PROGRESS",
    "COMPLETED": "COMPLETED",
    "FAILED": "FAILED",
}


class HedraBackend:
    """Flows over one Hedra account.

    Args:
        settings: those that begin with ``hedra_``, and where the journal is.
        clock: monotonic seconds.

    Raises:
        MissingSetting: HEDRA_API_KEY.
    """

    name = "hedra"

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = settings.hedra_api_url
        self.journal = Journal.from_settings(settings)
        self._key = settings.need("hedra_api_key", "the hedra backend pays for its jobs with it")
        self._max_usd = settings.hedra_max_usd
        self._poll_s = settings.hedra_poll_s
        self._clock = clock
        models = {
            "image": settings.hedra_image_model,
            "audio": settings.hedra_speech_model,
            "video": settings.hedra_avatar_model,
        }
        self.inputs = HedraInputs(self.url, self._key, models=models, clock=clock)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make it."""
        return cls(settings)

    def health_check(self) -> Flow[Health]:
        """Ask for the wallet, which proves the key too. Costs nothing."""
        try:
            wallet = check((yield from send(self._get("/balance"))), "Ask Hedra for the balance").object()
        except ComfyformError as error:
            return Health(backend=self.name, healthy=False, error=str(error))
        funds = as_number(wallet.get("balance"))
        empty = None if funds is None or funds > 0 else "The wallet at Hedra is empty: add funds."
        return Health(backend=self.name, healthy=not empty, error=empty, details=wallet)

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        """Run a verb to its end; a failure is raised. Past the deadline the job goes on, to be resumed."""
        start = self._clock()
        record, warnings = yield from self._begin(request)
        left = deadline_s - (self._clock() - start)
        return (yield from self._finish(record, request.output_path, start, left, warnings))

    def submit(self, request: Request, *, deadline_s: float) -> Flow[str]:  # noqa: ARG002  # Hedra has no limit
        """Submit a job that lives on without us, and return its id."""
        record, _ = yield from self._begin(request)
        return record.entry.job_id

    def resume(
        self, job_id: str, *, deadline_s: float, output_path: Path | None = None
    ) -> Flow[GenerationResult]:
        """Wait for a job that was submitted before, by whatever process, and fetch its result.

        Args:
            job_id: Hedra's.
            deadline_s: from now; the job lives on when it passes.
            output_path: where the result goes; by default where the journal says it was to go.
        """
        record = yield from Record.of(self.journal, job_id, self.url, backend=self.name)
        place = output_path or (Path(record.entry.output_path) if record.entry.output_path else None)
        return (yield from self._finish(record, place, self._clock(), deadline_s, ()))

    def status(self, job_id: str) -> Flow[JobStatus]:
        """Ask how a job is. A status that is added later is UNKNOWN."""
        reply = yield from send(self._get(f"/jobs/{check_id(job_id)}/status"))
        body = check(reply, "Ask Hedra for the job").object()
        state = STATES.get(as_text(body.get("status")), "UNKNOWN")
        return JobStatus(id=job_id, state=state, output=body.get("progress"))

    def cancel(self, job_id: str) -> Flow[bool]:
        """Say that Hedra cannot."""
        yield from ()
        raise NotSupported(f"Hedra cannot cancel job {job_id}: it goes on, and is paid for.", hint=OTHERS)

    # --- from a request to a job ---

    def _begin(self, request: Request) -> Flow[tuple[Record, list[str]]]:
        """Fill in the model's input, ask for the price, and submit once."""
        filled = yield from self.inputs.fill(request)
        path, body = f"/models/{filled.model}", {"input": filled.values}
        answer = yield from self._post(f"{path}/estimate", body, "Ask Hedra for the price")
        usd = as_number(answer.get("cost"))
        if usd is None:
            raise InvalidJson(
                f"Hedra's answer names no price: it is {shape_of(answer)}.", hint="Nothing was submitted."
            )
        if usd > self._max_usd:
            raise ConfigError(
                f"The job would cost ${usd:.4g} at Hedra, and HEDRA_MAX_USD is {self._max_usd:.4g}.",
                hint="Nothing was submitted. Ask for less, or set HEDRA_MAX_USD higher.",
            )
        record = yield from Record.begin(
            self.journal, request, self.url, backend=self.name, seed=filled.values.get("seed"), usd=usd
        )
        job_id = yield from record.submitted(self._submit_once(path, body))
        yield Progress({"progress": "job", "state": "SUBMITTED", "job_id": job_id, "usd": usd})
        return record, filled.warnings

    def _submit_once(self, path: str, body: Mapping[str, Any]) -> Flow[str]:
        # Under one key: however many attempts arrive, Hedra starts one job and gives the same answer.
        once = {**body, "idempotency_key": str(uuid.uuid4())}
        answer = yield from self._post(path, once, "Submit the job to Hedra")
        job_id = answer.get("job_id")
        if not isinstance(job_id, str) or not is_id(job_id):
            raise Unavailable(f"Hedra took the job and gave {quoted(job_id)} for its id.")
        return job_id

    # --- from a job to its result ---

    def _finish(
        self, record: Record, place: Path | None, start: float, deadline_s: float, warnings: Iterable[str]
    ) -> Flow[GenerationResult]:
        """Wait for a job, fetch what it made, and write down where it is."""
        job_id = record.needed_id()
        try:
            yield from wait_until_ended(
                lambda: self._look(job_id),
                job_id,
                deadline_s=deadline_s,
                delay=lambda _: self._poll_s,
                clock=self._clock,
                on_status=record.note,
            )
            job = yield from self._job(job_id)
            items, lost = _outputs(job, job_id)
        except JobError as error:
            if isinstance(error, WaitTimeout):
                error.hint = f"Hedra cannot cancel it: it is paid for. backend.resume({job_id!r}) fetches it."
            yield from record.ended(error)
            raise
        left = [self._left(record.entry.verb or self.name, job_id, item) for item in items]
        delivered = yield from deliver(
            left,
            place,
            lambda number, target: self._fetch(job_id, number, left[number], target),
            again=journal_again(job_id),
        )
        run_s = (as_number(as_object(job.get("metrics")).get("processing_time_ms")) or 0.0) / 1000
        result = result_of(
            replace(delivered, warnings=(*warnings, *lost, *delivered.warnings)),
            backend=self.name,
            seed=record.entry.seed,
            job_id=job_id,
            timings={"run": run_s, "total": self._clock() - start},
        )
        yield from record.done(result)
        return result

    def _look(self, job_id: str) -> Flow[JobStatus]:
        try:
            status = yield from self.status(job_id)
        except NotFound as error:
            raise JobExpired(f"Hedra does not know job {job_id} (any more).", job_id=job_id) from error
        yield Progress({"progress": "job", "state": status.state, "job_id": job_id, "share": status.output})
        return status

    def _job(self, job_id: str) -> Flow[Mapping[str, Any]]:
        """Return a job that has ended, its links good for another hour."""
        try:
            step = self._get(f"/jobs/{check_id(job_id)}")
            return (yield from ask(step, "Ask Hedra for the result")).object()
        except Unavailable as error:
            error.sent = True  # the job was: it is not to be given to another backend
            raise

    def _fetch(
        self, job_id: str, number: int, file: GeneratedFile, place: Path | None
    ) -> Flow[GeneratedFile]:
        if place is None:
            return file
        # Without the key: the link is signed, and on another host.
        step = Download(url=file.signed_url or "", to=place, what=file.filename)
        try:
            got = yield from download(step)
        except Forbidden:
            fresh = _outputs((yield from self._job(job_id)), job_id)[0][number : number + 1]
            url = needed_text(fresh[0] if fresh else {}, "url", f"{file.filename} at Hedra")
            file = replace(file, signed_url=url)
            got = yield from download(replace(step, url=url))
        return replace(file, local_path=place, size_bytes=got.size_bytes, sha256=got.sha256)

    def _left(self, verb: str, job_id: str, item: Mapping[str, Any]) -> GeneratedFile:
        name = f"{verb}_{job_id}{_suffix(as_text(item.get('content_type')))}"
        return GeneratedFile(
            type=kind_of(name),
            filename=name,
            signed_url=as_text(item.get("url")) or None,
            origin=self.inputs.origin,
            origin_path=as_text(item.get("asset_id")) or None,
        )

    def _get(self, path: str) -> Send:
        return Send("GET", self.url + path, key=self._key)

    def _post(self, path: str, body: Mapping[str, Any], what: str) -> Flow[Mapping[str, Any]]:
        """Ask for what may be repeated."""
        step = Send("POST", self.url + path, json=body, key=self._key, timeout_s=60.0)
        try:
            return (yield from ask(step, what)).object()
        except ApiError as error:
            if error.status == 402:
                error.hint = "Add funds to the API wallet at Hedra, or use another backend."
            raise


def _outputs(job: Mapping[str, Any], job_id: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Return what a job made that can be fetched, and sentences about what was lost.

    Raises:
        JobFailed, JobCancelled, JobExpired: there is nothing.
    """
    error, outputs = as_object(job.get("error")), objects_in(job.get("outputs"))
    items = [item for item in outputs if item.get("status") == "COMPLETED"]
    reasons = [
        as_text(as_object(item.get("error")).get("message")) or as_text(item.get("status")) or "no reason"
        for item in outputs
        if item not in items
    ]
    said = as_text(error.get("message")) or "; ".join(reasons) or "it gave nothing"
    if items:
        return items, [f"One output of job {job_id} failed: {reason}" for reason in reasons]
    if error.get("code") == "CANCELLED":
        raise JobCancelled(f"Job {job_id} was cancelled: {said}", job_id=job_id)
    if error.get("code") == "DEADLINE_EXCEEDED":
        raise JobExpired(f"Job {job_id} timed out at Hedra: {said}", job_id=job_id)
    if any(item.get("status") == "EXPIRED" for item in outputs):
        raise JobExpired(
            f"What job {job_id} made is no longer kept: Hedra keeps it for a day.", job_id=job_id
        )
    hint = (
        "Hedra's moderation refuses it: change what it shows or says."
        if error.get("code") == "MODERATION_FAILED"
        else None
    )
    raise JobFailed(
        f"Job {job_id} failed at Hedra: {said}", job_id=job_id, hint=hint, worker_error=json.dumps(error)
    )


def _suffix(content_type: str) -> str:
    return media_suffix(content_type) or ".bin"
