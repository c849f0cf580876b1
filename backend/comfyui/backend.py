"""The local backend: the verbs on a ComfyUI that this machine can reach.

Also what the worker runs against the ComfyUI in its own container, so it
takes plain values and knows nothing of RunPod.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from backend.comfyui.api import ComfyUI
from backend.comfyui.build_workflow import plan
from backend.comfyui.responses import Output, answered_from_cache, nothing_given, outputs
from backend.comfyui.run import SILENCE_S, finished, run, wait
from backend.errors import ComfyformError, JobCancelled, JobError, JobFailed, NotFound
from backend.files.deliver import Delivered, deliver, result_of
from backend.flow import Downloaded, Flow, work
from backend.flow.atomic_download import land
from backend.jobs.status import JobStatus
from backend.settings import Settings
from backend.validation.json_reader import as_list, as_object, as_text
from backend.verbs.request import Request
from backend.verbs.result import GeneratedFile, GenerationResult, Health
from backend.verbs.seed import seed_in_prefix

if TYPE_CHECKING:
    from backend.verbs.verb import Graph


class LocalBackend:
    """Flows over one ComfyUI.

    Args:
        comfyui: the ComfyUI.
        clock: monotonic seconds.
        silence_s: how long it may be unreachable during a run before the run counts as lost.
        add_unnamed: adds files that a run wrote without naming them in its history. Only a caller that
            owns ComfyUI's output folder can find them.
    """

    name = "local"
    talks = True

    def __init__(
        self,
        comfyui: ComfyUI,
        *,
        clock: Callable[[], float] = time.monotonic,
        silence_s: float = SILENCE_S,
        add_unnamed: Callable[[Delivered], Delivered] | None = None,
    ) -> None:
        self.comfyui = comfyui
        self._clock = clock
        self._silence_s = silence_s
        self._add_unnamed = add_unnamed

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make it for ``COMFYUI_URL``."""
        return cls(ComfyUI(settings.comfyui_url))

    def health_check(self) -> Flow[Health]:
        """Ask ComfyUI how it is."""
        try:
            stats = yield from self.comfyui.system_stats()
        except ComfyformError as error:
            return Health(backend=self.name, healthy=False, error=str(error))
        version = as_text(as_object(stats.get("system")).get("comfyui_version")) or None
        return Health(backend=self.name, healthy=True, version=version, details=stats)

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        """Run a verb to its end; a failure is raised.

        Args:
            request: the verb and its arguments. Its ``output_path`` may be a folder that exists, where
                every file keeps the name that ComfyUI gave it.
            deadline_s: for all of it, from now.

        Raises:
            JobError, ApiError, TransferError: the run failed.
        """
        start = self._clock()
        planned = yield from plan(self.comfyui, request)
        for attempt in (1, 2):
            left = deadline_s - (self._clock() - start)
            prompt_id, entry = yield from self._run(planned.graph, left)
            ran = self._clock()
            delivered = yield from self._collect(request.output_path, prompt_id, entry)
            if planned.own or attempt == 2 or not self._lacks_files(delivered, entry):
                break
            # ComfyUI answered from its cache, and the files of that run were deleted since.
            yield from self.comfyui.free()
        files = delivered.files
        if not files:
            raise nothing_given(entry)
        if request.asks_for("save_to_avatars") and delivered.failure is None:
            files = yield from self._keep_avatar(request, files)
        end = self._clock()
        timings = {"run": ran - start, "fetch": end - ran, "total": end - start}
        return result_of(
            replace(delivered, files=files, warnings=(*planned.warnings, *delivered.warnings)),
            backend=self.name,
            seed=planned.seed,
            prompt_id=prompt_id,
            timings=timings,
        )

    def _lacks_files(self, delivered: Delivered, entry: Mapping[str, Any]) -> bool:
        """Whether a run without ComfyUI's cache would give files that this one did not."""
        if isinstance(delivered.failure, NotFound):
            return True
        return self._add_unnamed is not None and not delivered.files and answered_from_cache(entry)

    def _run(self, graph: "Graph", deadline_s: float) -> Flow[tuple[str, Mapping[str, Any]]]:
        return run(self.comfyui, graph, deadline_s=deadline_s, clock=self._clock, silence_s=self._silence_s)

    def submit(self, request: Request, *, deadline_s: float) -> Flow[str]:  # noqa: ARG002  # ComfyUI has no limit
        """Queue a verb and return its prompt id."""
        planned = yield from plan(self.comfyui, request)
        return (yield from self.comfyui.queue(planned.graph))

    def resume(
        self, job_id: str, *, deadline_s: float, output_path: Path | None = None
    ) -> Flow[GenerationResult]:
        """Wait for a run that was queued before, and fetch its result. The run goes on past the deadline.

        Args:
            job_id: its prompt id.
            deadline_s: from now.
            output_path: where the result goes; None leaves it with ComfyUI.
        """
        start = self._clock()
        entry = yield from wait(self.comfyui, job_id, deadline_s=deadline_s, clock=self._clock)
        delivered = yield from self._collect(output_path, job_id, entry)
        if not delivered.files:
            raise nothing_given(entry)
        return result_of(
            delivered,
            backend=self.name,
            seed=seed_in(entry),
            prompt_id=job_id,
            timings={"total": self._clock() - start},
        )

    def status(self, job_id: str) -> Flow[JobStatus]:
        """Ask how a run is, in RunPod's words.

        Raises:
            NotFound: this ComfyUI does not know it (any more).
        """
        entry = yield from self.comfyui.history(job_id)
        if entry is not None:
            try:
                finished(entry, job_id)
            except JobCancelled as error:
                return JobStatus(id=job_id, state="CANCELLED", error=str(error))
            except JobError as error:
                return JobStatus(id=job_id, state="FAILED", error=str(error))
            return JobStatus(id=job_id, state="COMPLETED")
        position = yield from self.comfyui.position(job_id)
        if position is None:
            raise NotFound(f"ComfyUI at {self.comfyui.url} does not know the run {job_id} (any more).")
        return JobStatus(id=job_id, state="IN_QUEUE" if position else "IN_PROGRESS")

    def cancel(self, job_id: str) -> Flow[bool]:
        """Take a run out of the queue or interrupt it; False where it is in neither."""
        position = yield from self.comfyui.position(job_id)
        if position is None:
            return False
        yield from self.comfyui.interrupt(job_id)
        return True

    def _collect(self, output_path: Path | None, prompt_id: str, entry: Mapping[str, Any]) -> Flow[Delivered]:
        """Fetch what a run gave, where it is wanted here."""
        named = outputs(entry)
        delivered = yield from deliver(
            [self._left(output) for output in named],
            output_path,
            lambda number, place: self._fetch(named[number], place),
            again="The run is done: "
            f"`inv jobs.wait {prompt_id} --backend local --output-path …` fetches its result.",
        )
        if self._add_unnamed is not None:
            delivered = yield from work(partial(self._add_unnamed, delivered))
        return delivered

    def _fetch(self, output: Output, place: Path | None) -> Flow[GeneratedFile]:
        if place is None:
            return self._left(output)
        if output.text is not None:
            got = yield from work(partial(land, output.text.encode(), place))
        else:
            got = yield from self.comfyui.fetch(output.annotated, place)
        return self._left(output, place, got)

    def _left(
        self, output: Output, place: Path | None = None, got: Downloaded | None = None
    ) -> GeneratedFile:
        is_file = output.text is None
        return GeneratedFile(
            type=output.kind,
            filename=output.filename,
            local_path=place,
            remote_url=self.comfyui.view_url(output) if is_file else None,
            size_bytes=got.size_bytes if got else None,
            sha256=got.sha256 if got else None,
            text=output.text,
            origin=self.comfyui.origin,
            origin_path=output.annotated if is_file else None,
        )

    def _keep_avatar(
        self, request: Request, files: tuple[GeneratedFile, ...]
    ) -> Flow[tuple[GeneratedFile, ...]]:
        """Put the first picture among ComfyUI's inputs, under avatars/, and name it so from now on."""
        first = files[0]
        name = request["avatar_name"]
        name = name if name.lower().endswith(".png") else f"{name}.png"
        content = first.local_path or (yield from self.comfyui.read(first.origin_path or ""))
        if content is None:
            raise JobFailed(f"{first.filename} is gone from ComfyUI's output folder.")
        kept = yield from self.comfyui.upload(content, name, subfolder="avatars", overwrite=True)
        return (replace(first, origin_path=kept), *files[1:])


def seed_in(entry: Mapping[str, Any]) -> int | None:
    """The seed of a run whose graph is ours; None where it is the caller's own."""
    prompt = as_list(entry.get("prompt"))
    graph = as_object(prompt[2]) if len(prompt) > 2 else {}
    prefixes = (as_object(as_object(node).get("inputs")).get("filename_prefix") for node in graph.values())
    return next((seed for prefix in prefixes if (seed := seed_in_prefix(as_text(prefix))) is not None), None)
