"""A job's progress on its way to RunPod: the latest word, not too often, and never after the result.

The SDK's own ``progress_update`` posts each word from a thread of its own, so
that words arrive in any order, some after the result, which can leave the job
IN_PROGRESS permanently (runpod-python#250). Here one task posts them one by one,
and is finished before the result is given back.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 0.5

Post = Callable[[Mapping[str, Any]], Awaitable[None]]


class ProgressReport:
    """Progress of one job. Told from any thread; posts from the event loop it was opened in."""

    def __init__(self, post: Post, *, interval_s: float = INTERVAL_S) -> None:
        self._post = post
        self._interval_s = interval_s
        self._latest: Mapping[str, Any] | None = None
        self._lock = threading.Lock()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def tell(self, event: Mapping[str, Any]) -> None:
        """Note where the job is now; an older word that was not posted yet is forgotten."""
        with self._lock:
            self._latest = event

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._closing.is_set():
            try:
                await asyncio.wait_for(self._closing.wait(), self._interval_s)
            except TimeoutError:
                with self._lock:
                    event, self._latest = self._latest, None
                if event is not None:
                    try:
                        await self._post(event)
                    except Exception as error:  # noqa: BLE001  # a job is worth more than the word of how far it is
                        logger.info("progress could not be posted: %s", error)
