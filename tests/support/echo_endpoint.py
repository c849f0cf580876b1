"""Endpoints on the echo image, jobs on them, and their workers' logs."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import httpx

from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator

ENDPOINT = {
    "name": "echo",
    "type": "QUEUE",
    "image": "echo",
    "cpu": [{"id": "cpu3c", "vcpuCount": 2}],
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
    "workers": {"min": 0, "max": 1, "idleTimeout": 60},
}


def endpoint(emu: Emulator, **changes: Any) -> str:
    """Make an endpoint on the echo image, and return its id."""
    reply = emu.rest("POST", "/serverless", ENDPOINT | changes)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


def run(emu: Emulator, endpoint_id: str, **wish: Any) -> dict[str, Any]:
    """Run one job to its end, and return what /runsync said."""
    reply = emu.jobs("POST", f"/{endpoint_id}/runsync?wait=60000", {"input": wish})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def log_events(emu: Emulator, path: str, **headers: str) -> Generator[tuple[str, dict[str, Any]]]:
    """Return the events of a worker's log as they come: id and data."""
    key = {"Authorization": f"Bearer {emu.env['RUNPOD_API_KEY']}"}
    with httpx.stream("GET", emu.url("rest") + path, headers=key | headers, timeout=HANG_S) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        number = ""
        for line in reply.iter_lines():
            if line.startswith("id: "):
                number = line[4:]
            elif line.startswith("data: "):
                yield number, json.loads(line[6:])


def first_line(emu: Emulator, path: str) -> str:
    """Return the first line of a worker's log."""
    return str(next(log_events(emu, path))[1]["line"])
