"""Jobs of the Comfy API v2: one prompt of the ComfyUI behind it, followed from its own events."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.comfy_api.assets import Assets
from emulator.comfy_api.errors import timestamp
from emulator.comfyui.graph.engine import Engine
from emulator.control.clock import Clock

LIFE_S = 24 * 3600
TERMINAL = ("succeeded", "failed", "canceled", "expired")
KINDS = ("image", "video", "audio", "text")


@dataclass(slots=True)
class Job:
    """One job. `watchers` are the queues of its open event streams."""

    id: str
    graph: dict[str, dict[str, Any]]
    created_at: float
    status: str = "queued"
    started_at: float | None = None
    completed_at: float | None = None
    progress: dict[str, Any] | None = None
    preview: dict[str, Any] | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    watchers: list[asyncio.Queue[tuple[str, dict[str, Any]]]] = field(default_factory=list)
    interrupted: bool = False

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Send an event to all who watch."""
        for watcher in self.watchers:
            watcher.put_nowait((event, data))

    def become(self, status: str) -> None:
        """Change the status, and say so."""
        self.status = status
        self.tell("status", {"status": status})


class Jobs:
    """All jobs of the last day."""

    def __init__(self, engine: Engine, assets: Assets, clock: Clock, url: str) -> None:
        self._engine = engine
        self._assets = assets
        self._clock = clock
        self._url = url
        self._jobs: dict[str, Job] = {}
        self._followers: set[asyncio.Task[None]] = set()

    def clear(self) -> None:
        """Forget all of them."""
        for follower in self._followers:
            follower.cancel()
        self._jobs.clear()

    def get(self, job_id: str) -> Job | None:
        """Return a job that is not past its retention."""
        job = self._jobs.get(job_id)
        if job is None or job.created_at + LIFE_S < self._clock.now():
            return None
        return job

    def newest(self) -> list[Job]:
        """List jobs, newest first."""
        return sorted(self._jobs.values(), key=lambda job: -job.created_at)

    def follow(self, job_id: str, graph: dict[str, dict[str, Any]]) -> Job:
        """Begin to follow a prompt; must be called before it is queued."""
        job = self._jobs[job_id] = Job(job_id, graph, self._clock.now())
        listener = self._engine.sockets.attach(job_id)

        async def listen() -> None:
            try:
                while job.status not in TERMINAL:
                    self._hear(job, await listener.outbox.get())
            finally:
                self._engine.sockets.detach(job_id)

        follower = asyncio.create_task(listen())
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)
        return job

    def drop(self, job: Job) -> None:
        """Forget a job that was never queued."""
        job.status = "expired"
        self._jobs.pop(job.id, None)
        self._engine.sockets.detach(job.id)

    def cancel(self, job: Job) -> None:
        """Ask for a job's end; it comes at the next step. One that has ended stays as it is."""
        if job.status in TERMINAL:
            return
        if self._engine.dequeue([job.id]):
            self._end(job, "canceled")
        elif self._engine.interrupt(job.id):
            job.become("canceling")

    def _hear(self, job: Job, message: str | bytes) -> None:
        if isinstance(message, bytes):
            _keep_preview(job, message)
            return
        event = json.loads(message)
        kind, data = event["type"], event["data"]
        if data.get("prompt_id") != job.id:
            return
        if kind == "execution_start":
            job.started_at = self._clock.now()
            job.become("running")
        elif kind == "progress_state":
            _keep_progress(job, data["nodes"])
        elif kind == "executed":
            self._keep_outputs(job, data["node"], data["output"])
        elif kind == "execution_interrupted":
            job.interrupted = True
        elif kind == "execution_error":
            job.error = {
                "code": "node_execution_error",
                "message": data["exception_message"],
                "node_id": data["node_id"],
                "class_type": data["node_type"],
                "traceback": "".join(data["traceback"]),
            }
        elif kind == "executing" and data["node"] is None:
            self._end(job, "canceled" if job.interrupted else "failed" if job.error else "succeeded")

    def _end(self, job: Job, status: str) -> None:
        job.completed_at = self._clock.now()
        job.progress = None
        job.become(status)

    def _keep_outputs(self, job: Job, node_id: str, output: dict[str, list[Any]]) -> None:
        for found in output.values():
            for one in found:
                if isinstance(one, dict) and "filename" in one:
                    folder = self._engine.settings.folders.of_type(one["type"]) or Path()
                    self._keep(job, node_id, folder / one["subfolder"] / one["filename"], one["filename"])
                elif isinstance(one, str):
                    number = len(job.outputs) + 1
                    path = self._engine.settings.folders.temp / f"{job.id}_{number}.txt"
                    path.write_text(one)
                    self._keep(job, node_id, path, f"text_{number}.txt")

    def _keep(self, job: Job, node_id: str, path: Path, name: str) -> None:
        asset = self._assets.add(path, name, job_id=job.id)
        described = self._assets.to_json(asset)
        family = asset.content_type.partition("/")[0]
        output = {
            "node_id": node_id,
            "name": name,
            "type": family if family in KINDS else "file",
            **{key: described[key] for key in ("content_type", "size_bytes", "id", "hash", "url")},
            "url_expires_at": described["url_expires_at"],
            "job_id": job.id,
        }
        job.outputs.append(output)
        job.tell("output", output)

    def to_json(self, job: Job) -> dict[str, Any]:
        """Describe a job."""
        waiting = [item.prompt_id for item in self._engine.pending]
        started, completed = job.started_at, job.completed_at
        url = f"{self._url}/jobs/{job.id}"
        return {
            "id": job.id,
            "status": job.status,
            "created_at": timestamp(job.created_at),
            "started_at": None if started is None else timestamp(started),
            "completed_at": None if completed is None else timestamp(completed),
            "expires_at": timestamp(job.created_at + LIFE_S),
            "queue_position": waiting.index(job.id) if job.id in waiting else None,
            "progress": job.progress,
            "outputs": job.outputs,
            "error": job.error,
            "metrics": {
                "queue_ms": _milliseconds(job.created_at, started),
                "execution_ms": _milliseconds(started, completed),
            },
            "urls": {"self": url, "events": f"{url}/events", "cancel": f"{url}/cancel"},
        }


def _milliseconds(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else round((end - start) * 1000)


def _keep_progress(job: Job, nodes: dict[str, dict[str, Any]]) -> None:
    done = [node_id for node_id, node in nodes.items() if node["state"] == "finished"]
    running = [(node_id, node) for node_id, node in nodes.items() if node["state"] == "running"]
    part = sum(node["value"] / node["max"] for _, node in running if node["max"])
    total = len(job.graph)
    job.progress = {
        "value": min(1.0, (len(done) + part) / total),
        "nodes_done": len(done),
        "nodes_total": total,
    }
    if running:
        node_id, node = running[0]
        class_type = job.graph[node_id]["class_type"]
        job.progress |= {"current_node": node_id, "current_node_class": class_type}
        if node["max"] > 1:
            step, steps = int(node["value"]), int(node["max"])
            job.progress |= {"step": step, "steps": steps, "message": f"{class_type} {step}/{steps}"}
    job.tell("progress", job.progress)


def _keep_preview(job: Job, frame: bytes) -> None:
    """Read a preview with metadata: event 4, the metadata's length, the metadata, the JPEG."""
    kind, length = struct.unpack(">II", frame[:8])
    if kind != 4:
        return
    metadata = json.loads(frame[8 : 8 + length])
    image = base64.b64encode(frame[8 + length :]).decode()
    job.preview = {"node_id": metadata["node_id"], "content_type": "image/jpeg", "data_base64": image}
    job.tell("preview", job.preview)
