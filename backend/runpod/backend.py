"""The RunPod backend: the verbs as jobs of a serverless endpoint whose worker speaks ``backend.contract``.

Every job is in the journal from before it is submitted until its result is
here, so that ``resume`` can fetch what was paid for.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from backend.contract import CONTRACT
from backend.errors import (
    ApiError,
    ComfyformError,
    InvalidJson,
    JobError,
    JobExpired,
    MissingSetting,
    NotFound,
    TransferError,
)
from backend.files.deliver import result_of
from backend.files.volume_s3 import VolumeS3
from backend.flow import Flow, Send, send, work
from backend.jobs.journal import Journal
from backend.jobs.record import Record
from backend.jobs.status import JobStatus
from backend.runpod.health import judge
from backend.runpod.inputs import pack
from backend.runpod.job_api import UNKNOWN_GRACE_S, JobPlane
from backend.runpod.job_request import execution_policy
from backend.runpod.output_files import warnings_of
from backend.runpod.outputs import as_output, collect, is_here
from backend.runpod.preflight import Preflight
from backend.settings import Secret, Settings
from backend.validation.checks import check_id
from backend.validation.json_reader import as_count, as_object, as_text
from backend.verbs.request import Request
from backend.verbs.result import GenerationResult, Health
from backend.verbs.seed import seed_of


class RunPodBackend:
    """Flows over one endpoint.

    Args:
        plane: RunPod's job plane.
        endpoint_id: the endpoint that generates.
        journal: where jobs are written down.
        volume: the endpoint's volume over S3, for files that are too large for a job.
        rest: RunPod's control plane and its key, to tell why an endpoint takes no jobs; optional.
        preflight: refuses what the workers would refuse, before it is submitted; optional.
        clock: monotonic seconds.
    """

    name = "runpod"
    talks = True

    def __init__(
        self,
        plane: JobPlane,
        endpoint_id: str,
        *,
        journal: Journal,
        volume: VolumeS3 | None = None,
        rest: tuple[str, Secret] | None = None,
        preflight: Preflight | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plane = plane
        self.endpoint_id = endpoint_id
        self.journal = journal
        self.origin = f"runpod {endpoint_id}"
        self._volume = volume
        self._rest = rest
        self._preflight = preflight
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make it for ``RUNPOD_ENDPOINT_ID``.

        Raises:
            MissingSetting: RUNPOD_API_KEY or RUNPOD_ENDPOINT_ID.
        """
        key: Secret = settings.need("runpod_api_key", "the runpod backend submits jobs with it")
        if not settings.runpod_endpoint_id:
            raise MissingSetting(
                "RUNPOD_ENDPOINT_ID",
                "the runpod backend submits jobs to that endpoint",
                hint="`inv env` prints it for a stack that is up.",
            )
        return cls(
            JobPlane(settings.runpod_jobs_url, key),
            settings.runpod_endpoint_id,
            journal=Journal.from_settings(settings),
            volume=VolumeS3.from_settings(settings),
            rest=(settings.runpod_rest_url, key),
            preflight=Preflight.from_settings(settings),
        )

    def health_check(self) -> Flow[Health]:
        """Ask RunPod how the endpoint is. Wakes no worker and costs nothing."""
        try:
            counts = yield from self.plane.health(self.endpoint_id)
        except ComfyformError as error:
            return Health(backend=self.name, healthy=False, error=str(error))
        return judge(self.endpoint_id, counts, (yield from self._endpoint()))

    def _endpoint(self) -> Flow[Mapping[str, Any]]:
        """The endpoint as the control plane shows it; {} where this key may not look."""
        if self._rest is None:
            return {}
        url, key = self._rest
        try:
            reply = yield from send(
                Send("GET", f"{url}/serverless/{self.endpoint_id}", key=key, timeout_s=10.0)
            )
            return reply.object() if reply.ok else {}
        except ComfyformError:
            return {}

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        """Run a verb to its end; a failure is raised. When the wait ends early, the job is cancelled.

        Args:
            request: the verb and its arguments.
            deadline_s: for all of it, from now.
        """
        start = self._clock()
        job_input, seed = yield from self._prepare(request)
        record = yield from self._begin(request, job_input, seed)
        left = max(0.0, deadline_s - (self._clock() - start))
        try:
            output = yield from self.plane.call(
                self.endpoint_id, job_input, deadline_s=left, on_status=record.note
            )
        except BaseException as error:
            yield from record.ended(error)
            raise
        return (yield from self._finish(record, output, request.output_path, seed, start))

    def submit(self, request: Request, *, deadline_s: float) -> Flow[str]:
        """Submit a job that lives on without us, and return its id.

        Args:
            request: the verb and its arguments.
            deadline_s: how long the worker may run.
        """
        job_input, seed = yield from self._prepare(request)
        record = yield from self._begin(request, job_input, seed)
        submission = self.plane.submit(self.endpoint_id, job_input, policy=execution_policy(deadline_s))
        return (yield from record.submitted(submission))

    def resume(
        self, job_id: str, *, deadline_s: float, output_path: Path | None = None
    ) -> Flow[GenerationResult]:
        """Wait for a job that was submitted before, by whatever process, and fetch its result.

        Args:
            job_id: RunPod's.
            deadline_s: from now; the job lives on when it passes.
            output_path: where the result goes; by default where the journal says it was to go.
        """
        start = self._clock()
        record = yield from Record.of(self.journal, job_id, self.endpoint_id, backend=self.name)
        entry = record.entry
        place = output_path or (Path(entry.output_path) if entry.output_path else None)
        known = GenerationResult.from_json(entry.result) if entry.result else None
        if known is not None and (yield from work(partial(is_here, known, place))):
            return known
        waiting = self.plane.wait(
            entry.endpoint_id,
            entry.job_id or (yield from self._found(record)),
            deadline_s=deadline_s,
            fresh=record.known and entry.age_s() < UNKNOWN_GRACE_S,
            on_status=record.note,
        )
        try:
            output = yield from waiting
        except JobExpired as error:
            if known is None:
                yield from record.ended(error)
                raise
            # RunPod has forgotten it; what lies on the volume or in a bucket is still there.
            output = as_output(known)
        except (JobError, InvalidJson) as error:
            yield from record.ended(error)
            raise
        return (yield from self._finish(record, output, place, entry.seed, start))

    def _found(self, record: Record) -> Flow[str]:
        """Find a job at RunPod by the key that it carries: no answer to its submission was seen.

        Raises:
            NotFound: RunPod's list of requests does not show it.
        """
        entry = record.entry
        try:
            job_id = yield from self.plane.find(entry.endpoint_id, entry.key)
        except ApiError:
            job_id = None
        if job_id is None:
            raise NotFound(
                f"No answer to the submission of job {entry.key} was seen, and RunPod's list of requests of "
                f"endpoint {entry.endpoint_id} does not show it.",
                hint=f"If RunPod's console shows a request whose journal_key is {entry.key}, "
                "`inv jobs.wait` with that request's id fetches its result. Otherwise run it again.",
            )
        yield from record.note(JobStatus(id=job_id, state="IN_QUEUE"))
        return job_id

    def status(self, job_id: str) -> Flow[JobStatus]:
        """Ask how a job is."""
        endpoint_id, job_id = yield from self._place_of(job_id)
        return (yield from self.plane.status(endpoint_id, job_id))

    def cancel(self, job_id: str) -> Flow[bool]:
        """Cancel a job; False where it has ended, or RunPod does not know it (any more).

        RunPod says CANCELLED to whoever cancels, also of a job that ended long ago, so its state is
        asked first: a result that is paid for stays in the journal as one.
        """
        endpoint_id, job_id = yield from self._place_of(job_id)
        try:
            job = yield from self.plane.status(endpoint_id, job_id)
        except NotFound:
            return False
        done = not job.ended and (yield from self.plane.cancel(endpoint_id, job_id))
        if (done or job.ended) and (entry := (yield from work(partial(self.journal.find, job_id)))):
            state = "CANCELLED" if done else job.state
            yield from Record(self.journal, entry).note(replace(job, state=state))
        return done

    def _place_of(self, job_id: str) -> Flow[tuple[str, str]]:
        """The endpoint of a job and its id there, for its id or its key in the journal.

        Raises:
            InvalidArgument: it is not an id.
        """
        check_id(job_id)
        entry = yield from work(partial(self.journal.find, job_id))
        return (entry.endpoint_id, entry.job_id or job_id) if entry else (self.endpoint_id, job_id)

    def _prepare(self, request: Request) -> Flow[tuple[dict[str, Any], int | None]]:
        """Check that the workers would take it and upload the files; return the job's input and its seed."""
        if self._preflight is not None:
            yield from self._preflight.check(request)
        seed = seed_of(request) if "seed" in request.params else None
        packed = yield from pack(request, self.origin, self._volume)
        job_input: dict[str, Any] = {"action": request.verb, "contract": CONTRACT, **packed.params}
        if request.verb == "workflow":
            job_input["workflow"] = job_input.pop("graph")
        if seed is not None:
            job_input["seed"] = seed
        if packed.inputs:
            job_input["inputs"] = packed.inputs
        if request.keep_there:
            job_input["deliver"] = "volume"
        return job_input, seed

    def _begin(self, request: Request, job_input: dict[str, Any], seed: int | None) -> Flow[Record]:
        """Write the job down, and give it the entry's key, by which it is found if its answer is lost."""
        record = yield from Record.begin(
            self.journal, request, self.endpoint_id, backend=self.name, seed=seed
        )
        job_input["journal_key"] = record.entry.key
        return record

    def _finish(
        self, record: Record, output: Any, output_path: Path | None, seed: int | None, start: float
    ) -> Flow[GenerationResult]:
        """Put the files of an output in their places, and write down where they are."""
        answer = as_object(output)
        try:
            delivered = yield from collect(
                output,
                output_path=output_path,
                spare_folder=self.journal.folder.parent / "outputs" / record.entry.key,
                origin=self.origin,
                volume=self._volume,
                job_id=record.entry.job_id,
            )
        except ComfyformError as error:
            yield from self._keep(record, output, error)
            yield from record.ended(error)
            raise
        if isinstance(delivered.failure, TransferError):
            yield from self._keep(record, output, delivered.failure)
        job = record.last
        timings = {"queue": job.delay_s, "run": job.execution_s} if job else {}
        used = as_count(answer.get("seed"))
        warnings = (*warnings_of(output), *delivered.warnings)
        result = result_of(
            replace(delivered, warnings=warnings),
            backend=self.name,
            seed=seed if used is None else used,
            prompt_id=as_text(answer.get("prompt_id")) or None,
            job_id=record.entry.job_id,
            timings={
                **{name: value for name, value in timings.items() if value is not None},
                "total": self._clock() - start,
            },
        )
        yield from record.done(result)
        return result

    def _keep(self, record: Record, output: Any, error: ComfyformError) -> Flow[None]:
        """Keep an answer that could not be used: RunPod forgets it soon."""
        if (place := (yield from record.keep_answer(output))) is not None:
            note = f"The answer is kept as {place}."
            error.hint = f"{error.hint} {note}" if error.hint else note
