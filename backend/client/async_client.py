"""The face whose calls are awaited. Its twin is `backend.client.sync_client`; a test holds them equal.

Its verbs are in `backend.client.async_verbs`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from backend.client.async_verbs import AsyncVerbs
from backend.client.call import DEADLINE_S, Face
from backend.client.protocol import BackendFlows, resumable
from backend.flow import Flow
from backend.jobs.status import JobStatus
from backend.verbs.result import GenerationResult, Health

if TYPE_CHECKING:  # loading httpx takes longer than everything else here together
    from backend.flow.http_driver import AsyncHttp, OnProgress
    from backend.verbs.params import InputLike

T = TypeVar("T")


class AsyncJob:
    """A submitted job; see `Job`."""

    def __init__(self, backend: "AsyncBackend", job_id: str) -> None:
        self._backend = backend
        self.id = job_id

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def status(self) -> JobStatus:
        """Ask how it is."""
        return await self._backend.status(self.id)

    async def wait(
        self,
        *,
        output_path: str | Path | None = None,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
    ) -> GenerationResult:
        """Wait for it to end and fetch its result; see `AsyncBackend.resume`."""
        return await self._backend.resume(
            self.id, output_path=output_path, timeout_s=timeout_s, on_progress=on_progress
        )

    async def cancel(self) -> bool:
        """Cancel it; False where it is not known (any more)."""
        return await self._backend.cancel(self.id)


class AsyncBackend(AsyncVerbs, Face):
    """A backend whose calls are awaited; otherwise `Backend`. Belongs to one event loop."""

    def __init__(self, flows: BackendFlows, *, deadline_s: float = DEADLINE_S) -> None:
        super().__init__(flows, deadline_s=deadline_s)
        self._http: AsyncHttp | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        if self._http is not None:
            await self._http.aclose()

    async def _run(self, flow: Flow[T], on_progress: "OnProgress | None" = None) -> T:
        if self._http is None:
            from backend.flow.http_driver import AsyncHttp

            self._http = AsyncHttp()
        return await self._http.run(flow, on_progress=on_progress)

    async def health_check(self) -> Health:
        """Tell whether it would take a job now. Wakes no worker and costs nothing."""
        return await self._run(self.flows.health_check())

    async def generate(
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
        return await self._run(self._generate(verb, params, timeout_s), on_progress)

    async def workflow(
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
        return await self._run(self._generate("workflow", params, timeout_s), on_progress)

    async def _submit_job(self, verb: str, params: Mapping[str, Any], timeout_s: float | None) -> AsyncJob:
        return AsyncJob(self, await self._run(self._submit(verb, params, timeout_s)))

    async def resume(
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
        return await self._run(self._resume(job_id, output_path, timeout_s), on_progress)

    async def status(self, job_id: str) -> JobStatus:
        """Ask how a job is."""
        return await self._run(resumable(self.flows).status(job_id))

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it is not known (any more)."""
        return await self._run(resumable(self.flows).cancel(job_id))
