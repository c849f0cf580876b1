"""The cloud backend: the same graphs on whatever speaks the Comfy API v2.

That is Comfy Cloud, a Comfy API deployment, or comfy-api-proxy in front of your own
ComfyUI. Every job is in the journal from before it is submitted until its
result is here.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from backend.comfy_cloud.api import ASSET, ComfyApi
from backend.comfy_cloud.responses import job_id_of, output_address, status_of
from backend.comfyui.build_workflow import plan
from backend.errors import ComfyformError, JobFailed, NotSupported, WaitTimeout
from backend.files.deliver import deliver, journal_again, result_of
from backend.files.output_paths import file_name
from backend.flow import Downloaded, Flow, Progress, work
from backend.jobs.journal import Journal
from backend.jobs.record import Record
from backend.jobs.status import JobStatus
from backend.settings import Settings
from backend.validation.json_reader import as_count, as_number, as_object, as_text, objects_in
from backend.verbs.request import Request
from backend.verbs.result import GeneratedFile, GenerationResult, Health, Kind
from backend.verbs.verb import Graph, Planned

_KINDS: Final[Mapping[str, Kind]] = {"image": "image", "video": "video", "audio": "audio", "text": "text"}


class CloudBackend:
    """Flows over one server.

    Args:
        api: the server.
        journal: where jobs are written down.
        clock: monotonic seconds.
    """

    name = "cloud"
    talks = True

    def __init__(
        self, api: ComfyApi, *, journal: Journal, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.api = api
        self.journal = journal
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make it for ``COMFY_API_URL`` and, where the server asks for one, ``COMFY_API_KEY``."""
        api = ComfyApi(settings.comfy_api_url, settings.comfy_api_key)
        return cls(api, journal=Journal.from_settings(settings))

    def health_check(self) -> Flow[Health]:
        """Ask whether the server runs and takes the key. Costs nothing."""
        try:
            said = yield from self.api.health()
        except ComfyformError as error:
            return Health(backend=self.name, healthy=False, error=str(error))
        status = str(said.get("status") or "healthy")
        wrong = None if status == "healthy" else f"{self.api.url} says that it is {status}."
        return Health(backend=self.name, healthy=wrong is None, error=wrong, details=said)

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        """Run a verb to its end; a failure is raised. When the wait ends early, the job is cancelled.

        Args:
            request: the verb and its arguments.
            deadline_s: for all of it, from now.
        """
        start = self._clock()
        planned = yield from self._plan(request)
        record = yield from self._begin(request, planned)
        job = yield from self._submit(record, planned, deadline_s - (self._clock() - start))
        try:
            done = yield from self.api.wait(
                job_id_of(job),
                as_text(as_object(job.get("urls")).get("self")),
                deadline_s=deadline_s - (self._clock() - start),
                on_status=record.note,
                graph=planned.graph,
            )
        except GeneratorExit as error:
            yield from record.ended(error)
            raise
        except BaseException as error:
            if isinstance(error, WaitTimeout) or not isinstance(error, ComfyformError):
                with contextlib.suppress(ComfyformError):
                    yield from self.api.cancel(job_id_of(job))
                    if isinstance(error, WaitTimeout):
                        error.hint = "It was cancelled. COMFYFORM_TIMEOUT_S gives jobs more time."
            yield from record.ended(error)
            raise
        return (yield from self._finish(record, done, planned, request.output_path, start))

    def submit(self, request: Request, *, deadline_s: float) -> Flow[str]:
        """Submit a job that lives on without us, and return its id.

        Args:
            request: the verb and its arguments.
            deadline_s: how long a full queue, or a deployment that still starts, is waited for.
        """
        planned = yield from self._plan(request)
        job = yield from self._submit((yield from self._begin(request, planned)), planned, deadline_s)
        return job_id_of(job)

    def resume(
        self, job_id: str, *, deadline_s: float, output_path: Path | None = None
    ) -> Flow[GenerationResult]:
        """Wait for a job that was submitted before, by whatever process, and fetch its result.

        Args:
            job_id: of the job.
            deadline_s: from now; the job lives on when it passes.
            output_path: where the result goes; by default where the journal says it was to go.
        """
        start = self._clock()
        record = yield from Record.of(self.journal, job_id, self.api.url, backend=self.name)
        entry = record.entry
        try:
            job = yield from self.api.wait(record.needed_id(), deadline_s=deadline_s, on_status=record.note)
        except ComfyformError as error:
            yield from record.ended(error)
            raise
        place = output_path or (Path(entry.output_path) if entry.output_path else None)
        planned = Planned(graph={}, seed=entry.seed)
        return (yield from self._finish(record, job, planned, place, start))

    def status(self, job_id: str) -> Flow[JobStatus]:
        """Ask how a job is, in RunPod's words."""
        return status_of((yield from self.api.job(job_id)))

    def cancel(self, job_id: str) -> Flow[bool]:
        """Cancel a job; False where the server does not know it (any more)."""
        done = yield from self.api.cancel(job_id)
        if done and (entry := (yield from work(partial(self.journal.find, job_id)))):
            yield from Record(self.journal, entry).note((yield from self.status(job_id)))
        return done

    def _plan(self, request: Request) -> Flow[Planned]:
        if request.asks_for("save_to_avatars"):
            raise NotSupported(
                "The cloud backend cannot keep a portrait among ComfyUI's inputs.",
                hint="The local and runpod backends can; here the result itself is taken as an input.",
            )
        return (yield from plan(self.api, request))

    def _begin(self, request: Request, planned: Planned) -> Flow[Record]:
        return Record.begin(self.journal, request, self.api.url, backend=self.name, seed=planned.seed)

    def _submit(self, record: Record, planned: Planned, deadline_s: float) -> Flow[Mapping[str, Any]]:
        try:
            graph = yield from self.api.with_references(planned.graph)
            job = yield from self.api.submit(graph, deadline_s=deadline_s)
        except BaseException as error:
            yield from record.ended(error)
            raise
        yield from record.note(status_of(job))
        yield Progress({"progress": "job", "state": "SUBMITTED", "job_id": job_id_of(job)})
        return job

    def _finish(
        self,
        record: Record,
        job: Mapping[str, Any],
        planned: Planned,
        output_path: Path | None,
        start: float,
    ) -> Flow[GenerationResult]:
        """Fetch what a job gave, where it is wanted here, and write down where it is."""
        made = saved(objects_in(job.get("outputs")), planned.graph)
        if not made:
            raise JobFailed(
                "The job succeeded but produced no file.",
                job_id=job_id_of(job),
                hint="The workflow should end in a node that saves, like SaveImage.",
            )
        delivered = yield from deliver(
            [self._left(output) for output in made],
            output_path,
            lambda number, place: self._fetch(made[number], place),
            again=journal_again(job_id_of(job)),
        )
        metrics = as_object(job.get("metrics"))
        spent = {"queue": as_number(metrics.get("queue_ms")), "run": as_number(metrics.get("execution_ms"))}
        result = result_of(
            replace(delivered, warnings=(*planned.warnings, *delivered.warnings)),
            backend=self.name,
            seed=planned.seed,
            job_id=job_id_of(job),
            timings={
                **{name: ms / 1000 for name, ms in spent.items() if ms is not None},
                "total": self._clock() - start,
            },
        )
        yield from record.done(result)
        return result

    def _fetch(self, output: Mapping[str, Any], place: Path | None) -> Flow[GeneratedFile]:
        text = (yield from self.api.text(output)) if output.get("type") == "text" else None
        file = replace(self._left(output), text=text)
        if place is None:
            return file
        got: Downloaded = yield from self.api.save(output, place)
        return replace(file, local_path=place, size_bytes=got.size_bytes, sha256=got.sha256)

    def _left(self, output: Mapping[str, Any]) -> GeneratedFile:
        return GeneratedFile(
            type=_KINDS.get(str(output.get("type")), "file"),
            filename=file_name(as_text(output.get("name"))),
            remote_url=output_address(self.api.url, output),
            size_bytes=as_count(output.get("size_bytes")) or None,
            origin=self.api.origin,
            origin_path=f"{ASSET}{identity}" if (identity := as_text(output.get("id"))) else None,
        )


def saved(outputs: Sequence[Mapping[str, Any]], graph: Graph) -> list[Mapping[str, Any]]:
    """Leave out what nodes only preview, unless nothing was saved.

    The API does not say which is which, but the graph does where it is known.
    """

    def previews(output: Mapping[str, Any]) -> bool:
        return str((graph.get(str(output.get("node_id"))) or {}).get("class_type", "")).startswith("Preview")

    return [output for output in outputs if not previews(output)] or list(outputs)
