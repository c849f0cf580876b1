"""What REST shows of an endpoint's running side: workers and releases."""

from __future__ import annotations

from emulator.document import Document
from emulator.rest.call import Answer, Call
from emulator.rest.endpoints import find, timestamp
from emulator.state import State
from emulator.workers.fleet import Worker

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
