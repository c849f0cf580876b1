"""What the tools of one server share: settings, places, backends, and the jobs that are waited for."""

import asyncio
from collections.abc import Coroutine
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from backend.errors import ConfigError
from backend.settings import Settings
from backend.validation.user_paths import user_path
from mcp_server.cancellation import Submissions
from mcp_server.endpoint_price import EndpointPrice
from mcp_server.job_waiter import Watches
from mcp_server.output_dir import Outputs
from mcp_server.spending import ASKED
from mcp_server.volume_inventory import Look

if TYPE_CHECKING:  # httpx takes longer to load than all of this server
    from backend.client.protocol import BackendFlows
    from backend.flow import Flow
    from backend.flow.http_driver import AsyncHttp, OnProgress
    from backend.jobs.journal import Journal

T = TypeVar("T")

END_S: Final = 10.0
"""How long the end of the server waits for a submission or a cancellation that is under way."""


class Studio:
    """Everything that outlives a call. Used within ``async with``.

    Args:
        settings: as the server was started with.
        registry: the models wanted; it need not exist until a tool reads it.

    Raises:
        ConfigError: a setting of the server has no such value.
    """

    def __init__(self, settings: Settings, *, registry: Path) -> None:
        if settings.comfyform_mcp_confirm not in ASKED:
            raise ConfigError(
                f"COMFYFORM_MCP_CONFIRM is {settings.comfyform_mcp_confirm!r}.",
                hint=f"It may be {', '.join(ASKED)}.",
            )
        self.settings = settings
        self.registry = registry
        self.watches = Watches()
        self.submissions = Submissions()
        self.look = Look(settings)
        self.price = EndpointPrice(settings)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._flows: dict[str, BackendFlows] = {}
        self._http: AsyncHttp | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            # A request that is cut off leaves a job of which nobody knows whether it was submitted.
            await asyncio.wait(self._tasks, timeout=END_S)
        await self.watches.stop()
        await self.look.stop()
        if self._http is not None:
            await self._http.aclose()

    @cached_property
    def outputs(self) -> Outputs:
        """The folder of generated files."""
        where = self.settings.comfyform_output_dir
        if where is not None:
            return Outputs(user_path(where, "COMFYFORM_OUTPUT_DIR"))
        from platformdirs import user_data_path

        return Outputs(user_data_path("comfyform") / "outputs")

    @cached_property
    def journal(self) -> "Journal":
        """The jobs that were run from this machine, by whatever program."""
        from backend.jobs.journal import Journal

        return Journal.from_settings(self.settings)

    @property
    def state(self) -> Path:
        """The folder of what another server has to know after this one."""
        return self.journal.folder.parent

    @property
    def comparison(self) -> Path:
        """Where the last comparison of models is kept."""
        return self.state / "comparison.json"

    def flows(self, name: str | None = None) -> "BackendFlows":
        """Return a backend, made on first use, whose jobs the journal keeps.

        Flows and not a face, because here a job is submitted by one call and waited for by another.

        Args:
            name: "local", "runpod", …; None for the one that the settings choose.

        Raises:
            ConfigError: the backend is unknown, or a setting that it needs is missing.
        """
        from backend import get_async_backend
        from mcp_server.journaled_backend import with_journal

        chosen = name or self.settings.comfy_backend
        if chosen not in self._flows:
            flows = get_async_backend(chosen, settings=self.settings).flows
            self._flows[chosen] = with_journal(flows, self.journal)
        return self._flows[chosen]

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something that goes on when the call that started it is interrupted."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Its caller gets the exception, if it still waits.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def run(self, flow: "Flow[T]", on_progress: "OnProgress | None" = None) -> T:
        """Drive a flow to its end."""
        if self._http is None:
            from backend.flow.http_driver import AsyncHttp

            self._http = AsyncHttp()
        return await self._http.run(flow, on_progress=on_progress)
