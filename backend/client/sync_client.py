"""The face whose calls wait. Its twin is `backend.client.async_client`; a test holds them equal.

Its verbs are in `backend.client.sync_verbs`.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from backend.client.call import DEADLINE_S, Face
from backend.client.protocol import BackendFlows, resumable
from backend.client.sync_verbs import Verbs
from backend.flow import Flow
from backend.jobs.status import JobStatus
from backend.verbs.result import GenerationResult, Health

if TYPE_CHECKING:  # loading httpx takes longer than everything else here together
    from backend.flow.http_driver import Http, OnProgress
    from backend.verbs.params import InputLike

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


class Backend(Verbs, Face):
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

    def generate(
        self,
        verb: str,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: Any,
    ) -> GenerationResult:
        """Run a verb by its name: what the methods that are named after verbs do.

        Args:
            verb: "portrait", "tts" or any other.
            timeout_s, on_progress: as for every verb.
            params: the verb's own.

        Raises:
            InvalidArgument: the verb is unknown, or an argument is wrong.
        """
        return self._run(self._generate(verb, params, timeout_s), on_progress)

    def workflow(
        self,
        graph: Mapping[str, Any] | str | Path,
        *,
        inputs: "Mapping[str, InputLike] | None" = None,
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

    def _submit_job(self, verb: str, params: Mapping[str, Any], timeout_s: float | None) -> Job:
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
