"""Workers: what they are, how many an endpoint should have, where one is placed. Starts nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from emulator import catalog
from emulator.control.limits import Limits
from emulator.document import Document
from emulator.jobs.queue import IN_PROGRESS, IN_QUEUE, Job

IDLE_DEFAULT_S = 5.0
"""For endpoints without an `idleTimeout`: RunPod does not say how long those idle."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs."""

    data_center: str
    gpu_type: str | None
    volume_id: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a worker's log.

    Attributes:
        at: microseconds since the epoch when it was first seen; no two lines of a worker have the same.
        source: "container" or "system".
    """

    at: int
    source: str
    text: str


@dataclass(slots=True)
class Worker:
    """One worker of an endpoint.

    Attributes:
        key: the key that it shows to the job plane.
        place: None while no machine is free.
        ready: it has asked for a job.
        jobs: ids of those that it holds.
        idle_since: when it last had nothing to do.
        stuck_since: since when it holds a job that has ended, in real time: it should have dropped it.
        told_to_stop: jobs that it was told to drop the last time it asked.
        crashes: how often in a row its process has ended by itself.
        events: what the platform has to say of it, like the system log of the console.
        lines: both logs as far as `stamp` has read them, in the order of their times.
        read_events, read_bytes: how much of `events` and of the container's log is in `lines`.
    """

    id: str
    endpoint_id: str
    key: str
    version: int
    image: str
    args: str
    gpu_count: int
    log: Path
    created_at: float
    place: Place | None = None
    pid: int | None = None
    started_at: float | None = None
    ready: bool = False
    stopping: bool = False
    idle_since: float = 0.0
    crashes: int = 0
    stuck_since: float | None = None
    told_to_stop: list[str] = field(default_factory=list)
    jobs: set[str] = field(default_factory=set)
    events: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    read_events: int = 0
    read_bytes: int = 0

    @property
    def status(self) -> str:
        """Its state in REST v2's words."""
        if self.place is None:
            return "THROTTLED"
        if self.crashes and not self.ready:
            return "UNHEALTHY"
        if self.pid is None or not self.ready:
            return "INITIALIZING"
        return "RUNNING" if self.jobs else "IDLE"

    def log_lines(self, begin: int = 0) -> list[str]:
        """Return what its container wrote, from a byte on."""
        wrote = self.log.read_bytes()[begin:] if self.log.exists() else b""
        return wrote.decode(errors="replace").splitlines()

    def stamp(self, now: float) -> None:
        """Take what was written since the last call into `lines`; of a running process only whole lines."""
        fresh = [("system", text) for text in self.events[self.read_events :]]
        self.read_events = len(self.events)
        if self.log.exists() and self.log.stat().st_size > self.read_bytes:
            with self.log.open("rb") as log:
                log.seek(self.read_bytes)
                wrote = log.read()
            whole = wrote if self.pid is None else wrote[: wrote.rfind(b"\n") + 1]
            self.read_bytes += len(whole)
            fresh += [("container", line) for line in whole.decode(errors="replace").splitlines()]
        at = max(int(now * 1e6), self.lines[-1].at + 1 if self.lines else 0)
        self.lines += [Line(at + number, source, text) for number, (source, text) in enumerate(fresh)]

    def snapshot(self) -> Document:
        """Return what `/_emulator/state` shows of it; `key` lets a test speak as this worker."""
        return {
            "id": self.id,
            "endpointId": self.endpoint_id,
            "status": self.status,
            "stopping": self.stopping,
            "pid": self.pid,
            "key": self.key,
            "image": self.image,
            "version": self.version,
            "jobs": sorted(self.jobs),
            "events": self.events,
            "log": self.log_lines()[-40:],
        }


class Fleet:
    """All workers of the account, by id."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}

    def of_endpoint(self, endpoint_id: str) -> list[Worker]:
        """Return an endpoint's workers that are not being stopped."""
        return [w for w in self.workers.values() if w.endpoint_id == endpoint_id and not w.stopping]

    def health(self, endpoint_id: str) -> dict[str, int]:
        """Count an endpoint's workers as `/health` does; `ready` does not mean warm."""
        statuses = [worker.status for worker in self.of_endpoint(endpoint_id)]
        return {
            "idle": statuses.count("IDLE"),
            "initializing": statuses.count("INITIALIZING"),
            "ready": statuses.count("IDLE"),
            "running": statuses.count("RUNNING"),
            "throttled": statuses.count("THROTTLED"),
            "unhealthy": statuses.count("UNHEALTHY"),
        }


def wanted(endpoint: Document, jobs: list[Job], workers: list[Worker], now: float) -> int:
    """Return how many workers an endpoint should have now, between its `min` and `max`.

    Args:
        endpoint: the endpoint as REST shows it.
        jobs: its jobs.
        workers: those that it has.
        now: seconds since the epoch.

    Source: RunPod docs 2026-08-20, serverless/endpoints/endpoint-configurations, "Scaling type".
    """
    queued = [job for job in jobs if job.status == IN_QUEUE and not job.low_priority]
    scaling = endpoint["scaling"]
    count = len(workers)
    if scaling["type"] == "REQUEST_COUNT":
        running = sum(job.status == IN_PROGRESS for job in jobs)
        need = math.ceil((len(queued) + running) / scaling["requestCount"])
        count = max(count, need)
    elif queued and not workers:
        count = 1
    elif any(now - job.queued_at > scaling["queueDelay"] for job in queued):
        # A worker that is starting or waits for a machine will be free: one at a time.
        count += 0 if any(not worker.jobs for worker in workers) else 1
    limits = endpoint["workers"]
    return int(min(max(count, limits["min"]), limits["max"]))


def surplus(
    endpoint: Document, version: int, workers: list[Worker], *, queued: bool, idle_scale: float, now: float
) -> list[Worker]:
    """Return the workers to stop: those without a job: of an older version, too many, or idle too long.

    Args:
        endpoint: the endpoint as REST shows it.
        version: its current one.
        workers: those that it has.
        queued: whether a job waits.
        idle_scale: multiplies `idleTimeout`.
        now: seconds since the epoch.
    """
    bounds = endpoint["workers"]
    idle_s = bounds.get("idleTimeout", IDLE_DEFAULT_S) * idle_scale
    free = sorted((worker for worker in workers if not worker.jobs), key=lambda worker: worker.idle_since)
    stop = [worker for worker in free if worker.version != version]
    count = len(workers) - len(stop)
    for worker in free:
        if worker in stop:
            continue
        starting = worker.pid is not None and not worker.ready
        bored = not queued and not starting and count > bounds["min"] and now - worker.idle_since > idle_s
        if bored or count > bounds["max"]:
            stop.append(worker)
            count -= 1
    return stop


def place(endpoint: Document, volumes: dict[str, Document], limits: Limits) -> Place | None:
    """Choose a data center and a GPU type for a worker; None when nothing is free.

    A volume pins its workers to its data center; of several volumes a worker sees the one where it runs.
    """
    attached = [volume_id for volume_id in endpoint["networkVolumes"] if volume_id in volumes]
    homes = {volumes[volume_id]["dataCenter"]: volume_id for volume_id in attached}
    centers = [center.id for center in catalog.DATA_CENTERS]
    if endpoint["dataCenterIds"]:
        centers = [center for center in endpoint["dataCenterIds"] if center in centers]
    if homes:
        centers = [center for center in centers if center in homes]
    short = set(limits.shortage)
    for center in centers:
        if center in short:
            continue
        if "cpu" in endpoint:
            if center in catalog.CPU_DATA_CENTERS and any(cpu["id"] not in short for cpu in endpoint["cpu"]):
                return Place(center, None, homes.get(center))
            continue
        selection = endpoint["gpu"]
        for gpu in catalog.types_of(selection["pools"], selection.get("excludedTypes", [])):
            if center in gpu.data_centers and not {gpu.id, gpu.pool} & short:
                return Place(center, gpu.id, homes.get(center))
    return None
