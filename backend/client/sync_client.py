"""The face whose calls wait. Its twin is `backend.client.async_client`; a test holds them equal."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from backend.client.argument_docs import with_arguments
from backend.client.call import DEADLINE_S, Face
from backend.client.protocol import BackendFlows, resumable
from backend.contract import Verb
from backend.flow import Flow
from backend.jobs.status import JobStatus
from backend.verbs.params import (
    ImagineParams,
    InputLike,
    LipSyncParams,
    PortraitParams,
    TalkParams,
    TTSParams,
    WorkflowParams,
)
from backend.verbs.result import GenerationResult, Health

if TYPE_CHECKING:  # loading httpx takes longer than everything else here together
    from backend.flow.http_driver import Http, OnProgress

T = TypeVar("T")


class Job:
    """A submitted job. Its ``id`` is all that is needed to find it again, in any process."""

    def __init__(self, backend: "Backend", job_id: str) -> None:
        self._backend = backend
        self.id = job_id

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> JobStatus:
        """Ask how it is."""
        return self._backend.status(self.id)

    def wait(
        self,
        *,
        output_path: str | Path | None = None,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
    ) -> GenerationResult:
        """Wait for it to end and fetch its result; see `Backend.resume`."""
        return self._backend.resume(
            self.id, output_path=output_path, timeout_s=timeout_s, on_progress=on_progress
        )

    def cancel(self) -> bool:
        """Cancel it; False where it is not known (any more)."""
        return self._backend.cancel(self.id)


class Backend(Face):
    """A backend whose calls wait. Safe to share between threads.

    Every verb takes, beside its own arguments, ``timeout_s`` (a deadline for all of it; by default
    ``COMFYFORM_TIMEOUT_S``) and ``on_progress`` (called with a mapping now and then).
    """

    def __init__(self, flows: BackendFlows, *, deadline_s: float = DEADLINE_S) -> None:
        super().__init__(flows, deadline_s=deadline_s)
        self._lock = threading.Lock()
        self._http: Http | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        if self._http is not None:
            self._http.close()

    def _run(self, flow: Flow[T], on_progress: "OnProgress | None" = None) -> T:
        with self._lock:
            if self._http is None:
                from backend.flow.http_driver import Http

                self._http = Http()
        return self._http.run(flow, on_progress=on_progress)

    def health_check(self) -> Health:
        """Tell whether it would take a job now. Wakes no worker and costs nothing."""
        return self._run(self.flows.health_check())

    @with_arguments
    def portrait(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: Unpack[PortraitParams],
    ) -> GenerationResult:
        """Make a portrait from a prompt."""
        return self._run(self._generate("portrait", params, timeout_s), on_progress)

    @with_arguments
    def tts(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: Unpack[TTSParams],
    ) -> GenerationResult:
        """Speak a text in the voice of a recording."""
        return self._run(self._generate("tts", params, timeout_s), on_progress)

    @with_arguments
    def lipsync(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: Unpack[LipSyncParams],
    ) -> GenerationResult:
        """Make a portrait say what an audio file says."""
        return self._run(self._generate("lipsync", params, timeout_s), on_progress)

    @with_arguments
    def imagine(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: Unpack[ImagineParams],
    ) -> GenerationResult:
        """Make a picture from a description, as well as its checkpoint can."""
        return self._run(self._generate("imagine", params, timeout_s), on_progress)

    def workflow(
        self,
        graph: Mapping[str, Any] | str | Path,
        *,
        inputs: Mapping[str, InputLike] | None = None,
        output_path: str | Path | None = None,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
    ) -> GenerationResult:
        """Run any workflow in API format, a mapping or a JSON file.

        Args:
            graph: the workflow.
            inputs: files that it names: name in the graph → file.
            output_path: where the first file goes; further ones get -2, -3 before the suffix.
            timeout_s, on_progress: as for every verb.
        """
        params = {"graph": graph, "inputs": inputs, "output_path": output_path}
        return self._run(self._generate("workflow", params, timeout_s), on_progress)

    @with_arguments
    def talk(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: Unpack[TalkParams],
    ) -> GenerationResult:
        """Make a portrait speak a text in the voice of a recording: ``tts``, then ``lipsync``."""
        return self._run(self._generate("talk", params, timeout_s), on_progress)

    @overload
    def submit(
        self, verb: Literal["portrait"], *, timeout_s: float | None = None, **params: Unpack[PortraitParams]
    ) -> Job: ...
    @overload
    def submit(
        self, verb: Literal["tts"], *, timeout_s: float | None = None, **params: Unpack[TTSParams]
    ) -> Job: ...
    @overload
    def submit(
        self, verb: Literal["lipsync"], *, timeout_s: float | None = None, **params: Unpack[LipSyncParams]
    ) -> Job: ...
    @overload
    def submit(
        self, verb: Literal["imagine"], *, timeout_s: float | None = None, **params: Unpack[ImagineParams]
    ) -> Job: ...
    @overload
    def submit(
        self, verb: Literal["talk"], *, timeout_s: float | None = None, **params: Unpack[TalkParams]
    ) -> Job: ...
    @overload
    def submit(
        self, verb: Literal["workflow"], *, timeout_s: float | None = None, **params: Unpack[WorkflowParams]
    ) -> Job: ...
    def submit(self, verb: Verb, *, timeout_s: float | None = None, **params: Any) -> Job:
        """Submit a verb and come back for its result later, from any process.

        Args:
            verb: "portrait", "tts", "lipsync", "talk", "imagine" or "workflow".
            timeout_s: how long a worker may run.
            params: the verb's own.
        """
        return Job(self, self._run(self._submit(verb, params, timeout_s)))

    def resume(
        self,
        job_id: str,
        *,
        output_path: str | Path | None = None,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
    ) -> GenerationResult:
        """Wait for a job that was submitted before and fetch its result. It lives on past the deadline.

        Args:
            job_id: of the job.
            output_path: where the result goes; by default where the journal says it was to go.
            timeout_s, on_progress: as for every verb.
        """
        return self._run(self._resume(job_id, output_path, timeout_s), on_progress)

    def status(self, job_id: str) -> JobStatus:
        """Ask how a job is."""
        return self._run(resumable(self.flows).status(job_id))

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it is not known (any more)."""
        return self._run(resumable(self.flows).cancel(job_id))
