"""What RunPod's counts of workers and jobs mean. Pure."""

from collections.abc import Mapping
from typing import Any

from backend.verbs.result import Health


def judge(endpoint_id: str, counts: Mapping[str, Any], endpoint: Mapping[str, Any]) -> Health:
    """Tell whether an endpoint would take a job now, and why not.

    Args:
        counts: ``{"jobs": {…}, "workers": {…}}`` of the job plane. No workers at all is healthy: they
            come with the first job.
        endpoint: as the control plane shows it, or {} where that is not known.

    Source: the job plane's health says nothing of a paused endpoint (facts: runpod.md 3a).
    """
    workers: Mapping[str, int] = counts.get("workers") or {}
    jobs: Mapping[str, int] = counts.get("jobs") or {}
    good = sum(workers.get(name, 0) for name in ("idle", "ready", "running", "initializing"))
    details: dict[str, Any] = {"endpoint_id": endpoint_id, "workers": dict(workers), "jobs": dict(jobs)}
    if waiting := jobs.get("inQueue", 0) if good == 0 else 0:
        # No verdict: a worker that is about to start is not counted anywhere yet.
        details["note"] = (
            f"{waiting} waiting and no worker has started; other endpoints may have used up the account's "
            "worker quota."
        )
    error = None
    if (endpoint.get("workers") or {}).get("max") == 0:
        error = f"Endpoint {endpoint_id} is paused: it may have no workers. Give it a maximum above 0."
    elif good == 0 and workers.get("throttled", 0):
        error = (
            f"All workers of endpoint {endpoint_id} are throttled: RunPod has no free machine of its kinds "
            "in its data center. Wait, or allow more GPU pools."
        )
    elif good == 0 and workers.get("unhealthy", 0):
        error = (
            f"All workers of endpoint {endpoint_id} are unhealthy. Their logs in RunPod's console say why."
        )
    return Health(backend="runpod", healthy=error is None, error=error, details=details)
