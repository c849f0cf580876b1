"""Webhooks of jobs: RunPod posts a job that has ended to the URL that came with it.

Source: RunPod docs 2026-08-20, "Webhook notifications": three tries, ten seconds apart, and a failure to
deliver never fails the job.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request

from emulator.jobs.queue import Job
from emulator.state import State

TRIES = 3
TIMEOUT_S = 10.0


class Webhooks:
    """Delivers them in the background."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()
        state.jobs.on_final.append(self.tell)
        state.on_reset.append(self.stop)

    def tell(self, job: Job) -> None:
        """Post a job that has ended, if it came with a webhook."""
        url = job.body.get("webhook")
        if isinstance(url, str) and url.startswith(("http://", "https://")):
            body = job.shown() | {"input": job.body["input"], "webhook": url}
            task = asyncio.get_running_loop().create_task(self._deliver(url, json.dumps(body).encode()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Deliver no more."""
        for task in self._tasks:
            task.cancel()

    async def _deliver(self, url: str, body: bytes) -> None:
        for _ in range(TRIES):
            if await asyncio.to_thread(_post, url, body):
                return
            await asyncio.sleep(self._state.limits.webhook_retry_s)


def _post(url: str, body: bytes) -> bool:
    """Post once; tell whether it was taken."""
    headers = {"Content-Type": "application/json", "User-Agent": "Go-http-client/2.0"}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - checked by the caller
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 - as above
            return bool(200 <= reply.status < 300)
    except (OSError, urllib.error.URLError):
        return False
