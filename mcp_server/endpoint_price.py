"""What a worker of the configured endpoint costs an hour, from RunPod's catalog."""

import asyncio
import logging
import time
from typing import Final

from backend.errors import ComfyformError
from backend.settings import Settings

logger = logging.getLogger(__name__)

FRESH_S: Final = 3600.0
"""How long a price is reused; one that could not be had is asked for again with the next question."""
PATIENCE_S: Final = 5.0
"""How long a question waits for the price."""


class EndpointPrice:
    """The hourly price of ``RUNPOD_ENDPOINT_ID``'s workers.

    Args:
        settings: they name the endpoint and the key.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._usd: float | None = None
        self._read_at = 0.0
        self._task: asyncio.Task[float | None] | None = None

    async def usd_per_hour(self) -> float | None:
        """Return US dollars an hour for one worker at most; None if unknown. Raises nothing."""
        if self._usd is not None and time.monotonic() - self._read_at < FRESH_S:
            return self._usd
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(asyncio.to_thread(self._read))
        # Not cancelled when the time is up: the next question may use its answer.
        await asyncio.wait({self._task}, timeout=PATIENCE_S)
        if not self._task.done():
            return None
        self._usd, self._read_at = self._task.result(), time.monotonic()
        return self._usd

    def _read(self) -> float | None:
        from backend.flow import Retry
        from backend.flow.http_driver import Http
        from ops.runpod import catalog
        from ops.runpod.api import ENDPOINTS, RunPodApi
        from ops.runpod.pricing import endpoint_workers, worker_usd_per_hour

        endpoint_id = self._settings.runpod_endpoint_id
        if not endpoint_id:
            return None
        try:
            key = self._settings.need("runpod_api_key", "RunPod shows prices with it")
            with Http() as http:
                api = RunPodApi(
                    http, self._settings.runpod_rest_url, key, retry=Retry(attempts=2), timeout_s=PATIENCE_S
                )
                workers = endpoint_workers(api.get(ENDPOINTS, endpoint_id).values)
                usd, unpriced = worker_usd_per_hour(catalog.fetch(api), workers)
        except (ComfyformError, KeyError, TypeError, ValueError) as error:
            logger.info("The price of endpoint %s is unknown: %s", endpoint_id, error)
            return None
        # Where one of its pools has no price, the others' is not the most that a worker may cost.
        return None if unpriced else usd
