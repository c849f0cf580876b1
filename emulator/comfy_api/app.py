"""The Comfy API v2 on loopback, as Comfy Cloud and deployments serve it, over the emulator's own ComfyUI.

Contents are redirected to signed links on another host, as there; a key is asked for, as there.
"""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import PurePosixPath
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from emulator.comfy_api.assets import Assets, retention
from emulator.comfy_api.errors import Refusal
from emulator.comfy_api.jobs import TERMINAL, Job, Jobs
from emulator.comfyui.app import engine_of
from emulator.comfyui.graph.validation import ServerTrouble
from emulator.files.cdn import cdn_of
from emulator.files.content import OnDisk
from emulator.numbers import whole_number
from emulator.state import State

PREFIX = "/comfy-api"
MOST_QUEUED = 100
MOST_STREAMS = 8
KEY_LIFE_S = 24 * 3600
RESERVED = ("webhook_url", "inputs")

Handler = Callable[[Request], Awaitable[Response]]


def app(state: State) -> Starlette:
    """Make the plane."""
    plane = ComfyApi(state)
    state.on_reset.append(plane.clear)

    def route(path: str, handler: Handler, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                plane.check_key(request)
                return await handler(request)
            except Refusal as refusal:
                return refusal.response()

        return Route(f"/api/v2{path}", endpoint, methods=[method])

    async def missing(request: Request) -> Response:
        raise Refusal(404, "not_found", f"No route {request.method} {request.url.path}.")

    return Starlette(
        routes=[
            route("/assets", plane.upload, "POST"),
            route("/assets/from-hash", plane.from_hash, "POST"),
            route("/assets/by-hash/{hash}", plane.by_hash, "HEAD"),
            route("/assets/{asset_id}", plane.asset),
            route("/assets/{asset_id}", plane.remove_asset, "DELETE"),
            route("/assets/{asset_id}/content", plane.content),
            route("/jobs", plane.submit, "POST"),
            route("/jobs", plane.list_jobs),
            route("/jobs/{job_id}", plane.job),
            route("/jobs/{job_id}/workflow", plane.workflow),
            route("/jobs/{job_id}/events", plane.events),
            route("/jobs/{job_id}/cancel", plane.cancel, "POST"),
            route("/{rest:path}", missing),
        ]
    )


class ComfyApi:
    """The plane's handlers and what they remember."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._engine = engine_of(state)
        self._cdn = cdn_of(state)
        self._keys: dict[str, float] = {}
        self._streams = 0
        url = f"{state.url}{PREFIX}/api/v2"
        self.assets = Assets(state.root / "comfy-api", state.clock, url)
        self.jobs = Jobs(self._engine, self.assets, state.clock, url)

    def clear(self) -> None:
        """Forget everything."""
        self._keys.clear()
        self.jobs.clear()
        self.assets.clear()

    def check_key(self, request: Request) -> None:
        """Ask for the account's key.

        Raises:
            Refusal: 401 without it.
        """
        if request.headers.get("authorization") != f"Bearer {self._state.keys.comfy_api_key}":
            raise Refusal(401, "unauthorized", "Missing or invalid API key.")

    def _claim(self, request: Request) -> str | None:
        """Check that an idempotency key is new.

        Raises:
            Refusal: it was used in the last 24 hours.
        """
        key = request.headers.get("idempotency-key")
        if key is not None and self._keys.get(key, 0.0) > self._state.clock.now():
            message = "This Idempotency-Key was used before; keys are single use."
            raise Refusal(422, "idempotency_key_reuse", message)
        return key

    def _use(self, key: str | None) -> None:
        if key is not None:
            self._keys[key] = self._state.clock.now() + KEY_LIFE_S

    # assets

    async def upload(self, request: Request) -> Response:
        """Take a file."""
        key = self._claim(request)
        async with request.form() as form:
            file = form.get("file")
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            if not isinstance(file, UploadFile) or not {"content_type", "file_path"} <= set(fields):
                message = "file, content_type and file_path are required."
                raise Refusal(422, "invalid_request", message)
            asset, new = await asyncio.to_thread(self.assets.take, file, fields)
        self._use(key)
        return JSONResponse(self.assets.to_json(asset) | {"created_new": new}, 201 if new else 200)

    async def from_hash(self, request: Request) -> Response:
        """Make an asset over bytes that are here already."""
        body = await _json(request)
        path = self.assets.by_hash(str(body.get("hash")))
        if path is None:
            raise Refusal(404, "blob_not_found", "No blob with this hash.")
        name = str(body.get("file_path") or path.name)
        asset = self.assets.add(path, name, blake3=body["hash"], life_s=retention(body.get("expires_in")))
        return JSONResponse(self.assets.to_json(asset) | {"created_new": False}, 201)

    async def by_hash(self, request: Request) -> Response:
        """Tell whether bytes are here."""
        return Response(status_code=404 if self.assets.by_hash(request.path_params["hash"]) is None else 200)

    async def asset(self, request: Request) -> Response:
        """Describe an asset."""
        return JSONResponse(self.assets.to_json(self.assets.get(request.path_params["asset_id"])))

    async def remove_asset(self, request: Request) -> Response:
        """Delete an asset's record."""
        self.assets.remove(request.path_params["asset_id"])
        return Response(status_code=204)

    async def content(self, request: Request) -> Response:
        """Send to a signed link of the bytes."""
        asset = self.assets.get(request.path_params["asset_id"])
        if not asset.path.exists():
            raise Refusal(404, "not_found", f"The content of asset {asset.id} is gone.")
        name = PurePosixPath(asset.name).name
        return RedirectResponse(self._cdn.link("comfy", OnDisk(asset.path), name), 302)

    # jobs

    async def submit(self, request: Request) -> Response:
        """Queue a workflow."""
        key = self._claim(request)
        body = await _json(request)
        graph = _workflow(body)
        if self._engine.remaining >= MOST_QUEUED:
            raise Refusal(429, "queue_full", f"{MOST_QUEUED} jobs are queued.", retry_after_s=5)
        graph = self._with_inputs(graph)
        job = self.jobs.follow(str(uuid.uuid4()), graph)
        prompt = {"prompt": graph, "prompt_id": job.id, "client_id": job.id}
        try:
            status, answer = self._engine.submit(prompt | {"extra_data": {"preview_method": "auto"}})
        except ServerTrouble:
            self.jobs.drop(job)
            raise Refusal(422, "invalid_workflow", "The workflow is not in API format.") from None
        if status != 200:
            self.jobs.drop(job)
            details = {"node_errors": answer["node_errors"]}
            raise Refusal(422, "invalid_workflow", answer["error"]["message"], details)
        self._use(key)
        return JSONResponse(self.jobs.to_json(job), 201)

    def _with_inputs(self, graph: dict[str, Any]) -> dict[str, Any]:
        """Put assets where ComfyUI finds them, and their names in place of the references.

        Raises:
            Refusal: an asset is not there.
        """
        missing: list[str] = []

        def replace(value: Any) -> Any:
            if isinstance(value, dict):
                if value.get("__type") == "core/ASSET":
                    return self._input(str(value.get("info", {}).get("id")), missing)
                return {name: replace(one) for name, one in value.items()}
            return [replace(one) for one in value] if isinstance(value, list) else value

        replaced: dict[str, Any] = replace(copy.deepcopy(graph))
        if missing:
            message = f"Unresolvable core/ASSET reference(s): {', '.join(missing)}"
            raise Refusal(422, "missing_asset", message, {"missing_ids": missing})
        return replaced

    def _input(self, asset_id: str, missing: list[str]) -> str:
        if not self.assets.knows(asset_id):
            missing.append(asset_id)
            return ""
        asset = self.assets.get(asset_id)
        name = f"assets/{asset.id}/{PurePosixPath(asset.name).name}"
        path = self._engine.settings.folders.input / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(asset.path, path)
        return name

    def _job(self, request: Request) -> Job:
        job = self.jobs.get(request.path_params["job_id"])
        if job is None:
            raise Refusal(404, "not_found", f"No job {request.path_params['job_id']}.")
        return job

    async def list_jobs(self, request: Request) -> Response:
        """List jobs, newest first. Not in the published document; the official proxy and SDK have it."""
        limit = whole_number(request.query_params.get("limit", "20"))
        if limit is None:
            raise Refusal(422, "invalid_request", "limit must be a number.")
        jobs = self.jobs.newest()
        page = [self.jobs.to_json(job) for job in jobs[:limit]]
        return JSONResponse({"jobs": page, "has_more": len(jobs) > limit})

    async def job(self, request: Request) -> Response:
        """Describe a job."""
        return JSONResponse(self.jobs.to_json(self._job(request)))

    async def workflow(self, request: Request) -> Response:
        """Return the graph that a job ran."""
        return JSONResponse({"workflow": self._job(request).graph, "format": "api"})

    async def cancel(self, request: Request) -> Response:
        """Ask for a job's end."""
        job = self._job(request)
        self.jobs.cancel(job)
        return JSONResponse(self.jobs.to_json(job))

    async def events(self, request: Request) -> Response:
        """Stream a job's events: a snapshot, what follows, and the end after the last status."""
        job = self._job(request)
        if self._streams >= MOST_STREAMS:
            raise Refusal(429, "too_many_streams", f"{MOST_STREAMS} streams are open.", retry_after_s=5)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(job), headers=headers, media_type="text/event-stream")

    async def _stream(self, job: Job) -> AsyncIterator[str]:
        queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        job.watchers.append(queue)
        self._streams += 1
        try:
            yield _frame("status", {"status": job.status})
            for name, snapshot in (("progress", job.progress), ("preview", job.preview)):
                if snapshot is not None:
                    yield _frame(name, snapshot)
            if job.status in TERMINAL:
                return
            while True:
                event, data = await queue.get()
                yield _frame(event, data)
                if event == "status" and data["status"] in TERMINAL:
                    return
        finally:
            self._streams -= 1
            job.watchers.remove(queue)


def _frame(event: str, data: dict[str, Any]) -> str:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal(422, "invalid_request", "The body must be a JSON object.")
    return body


def _workflow(body: dict[str, Any]) -> dict[str, Any]:
    """Check what a submission may hold; return its graph.

    Raises:
        Refusal: there is no graph, it is the editor's format, or the body asks for what is not there yet.
    """
    graph = body.get("workflow")
    if not isinstance(graph, dict):
        raise Refusal(422, "invalid_workflow", "Missing 'workflow' (API-format graph).")
    if "nodes" in graph and "links" in graph:
        message = "This is a UI-export graph. Export the workflow in API format instead."
        raise Refusal(422, "workflow_format_ui", message)
    reserved = [name for name in RESERVED if name in body]
    unknown = set(body.get("extra_data") or {}) - {"api_key_comfy_org"}
    if reserved or unknown:
        names = ", ".join([*reserved, *sorted(unknown)])
        raise Refusal(422, "invalid_request", f"Not supported: {names}.")
    return graph
