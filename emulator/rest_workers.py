"""What REST shows of an endpoint's running side: workers, releases, a worker's log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from starlette.responses import StreamingResponse

from emulator.document import Document
from emulator.fleet import Worker
from emulator.problems import invalid, not_found
from emulator.rest_call import Answer, Call
from emulator.rest_endpoints import find, timestamp
from emulator.state import State

STATUSES = ("RUNNING", "IDLE", "INITIALIZING", "THROTTLED", "UNHEALTHY")


def list_all(state: State, call: Call) -> Answer:
    """List an endpoint's workers and count them by status."""
    endpoint = find(state, call.id)
    workers = [_shown(state, worker, endpoint.version) for worker in state.fleet.of_endpoint(call.id)]
    summary = {status.lower(): sum(worker["status"] == status for worker in workers) for status in STATUSES}
    summary["total"] = len(workers)
    return 200, {"endpointVersion": endpoint.version, "summary": summary, "workers": workers}


def releases(state: State, call: Call) -> Answer:
    """List an endpoint's releases, newest first, and how far the newest one has rolled out."""
    endpoint = find(state, call.id)
    versions = [worker.version for worker in state.fleet.of_endpoint(call.id)]
    latest = versions.count(endpoint.version)
    rollout = {
        "inProgress": latest < len(versions),
        "workersOnLatest": latest,
        "workersTotal": len(versions),
        "percentOnLatest": round(100 * latest / len(versions)) if versions else 0,
    }
    shown = [release | {"workerCount": versions.count(release["version"])} for release in endpoint.releases]
    return 200, {"endpointVersion": endpoint.version, "rollout": rollout, "releases": shown}


def logs(state: State, call: Call) -> Answer:
    """Give a worker's log as server-sent events: the lines so far, then the end of the stream."""
    find(state, call.id)
    source = call.query.get("source", "container")
    if source not in ("container", "system"):
        raise invalid("$.source: value must be one of 'container', 'system'")
    worker = next((w for w in state.fleet.of_endpoint(call.id) if w.id == call.params["workerId"]), None)
    if worker is None:
        raise not_found()
    lines = worker.log_lines() if source == "container" else worker.events
    tail = min(5000, int(call.query.get("tail", "100")))
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(source, lines[-tail:]), media_type="text/event-stream", headers=headers)


def _events(source: str, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        now = timestamp(time.time())
        yield f"id: {now}/{number:012d}\ndata: {json.dumps({'ts': now, 'source': source, 'line': line})}\n\n"


def _shown(state: State, worker: Worker, endpoint_version: int) -> Document:
    started = worker.started_at
    return {
        "id": worker.id,
        "status": worker.status,
        "isStale": worker.version != endpoint_version,
        "version": worker.version,
        "gpuCount": worker.gpu_count,
        "image": worker.image,
        "uptimeSeconds": None if started is None else max(0, int(state.clock.now() - started)),
        "gpuTypeId": worker.place.gpu_type if worker.place else None,
        "dataCenterId": worker.place.data_center if worker.place else None,
        "startedAt": None if started is None else timestamp(started),
    }
