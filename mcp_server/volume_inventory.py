"""One look at the volume at a time, shared by whoever asks for it while it lasts.

A look through the ops endpoint starts a worker and may take longer than a
client waits. It goes on then, and the next call finds it, or its result.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from backend.errors import ComfyformError
from backend.settings import Settings
from mcp_server.job_waiter import HEARTBEAT_S

if TYPE_CHECKING:  # ops brings boto3 and yaml along
    from ops.models.inventory import Inventory

FRESH_S: Final = 60.0
"""How long a listing of the volume is reused, so that all pages of a list come from the same listing."""


class _Stopped(ComfyformError):
    """The server ends."""


class Look:
    """The volume's inventory, read on request.

    Args:
        settings: they name the volume.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._transport = ""
        self._started = 0.0
        self._task: asyncio.Task[Inventory] | None = None

    def known(self, transport: str) -> bool:
        """Tell whether asking now starts nothing new."""
        if self._task is None or transport != self._transport:
            return False
        if not self._task.done():
            return True
        failed = self._task.cancelled() or self._task.exception() is not None
        return not failed and time.monotonic() - self._started < FRESH_S

    async def inventory(
        self, transport: str, patience_s: float, report: Callable[[str], Awaitable[None]]
    ) -> "Inventory | None":
        """Return what the volume holds; None when the time is up and the look goes on.

        Args:
            transport: ``job`` or ``s3``.
            patience_s: how long to wait.
            report: told now and then that it goes on.

        Raises:
            ComfyformError: it cannot be looked at.
        """
        if not self.known(transport) or self._task is None:
            self._transport, self._started = transport, time.monotonic()
            self._task = asyncio.create_task(asyncio.to_thread(self._look, transport))
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        end = time.monotonic() + patience_s
        while (left := end - time.monotonic()) > 0:
            done, _ = await asyncio.wait({self._task}, timeout=min(left, HEARTBEAT_S))
            if done:
                break
            await report(f"looking at the volume ({time.monotonic() - self._started:.0f} s)")
        return self._task.result() if self._task.done() else None

    async def stop(self) -> None:
        """End a look that goes on."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _look(self, transport: str) -> "Inventory":
        from ops.stores.remote_volume import open_remote

        try:
            with open_remote(self._settings, transport, stop=self._stop) as remote:
                return remote.store.inventory()
        except KeyboardInterrupt:
            # How a wait ends that was stopped; in a thread of a server it must end nothing else.
            raise _Stopped("The server ends.") from None
