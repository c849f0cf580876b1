"""The conversation with a server that speaks the Comfy API v2, as flows: assets, submit, wait, fetch.

Polling is the authority. A job is submitted under one idempotency key however
often that takes, and links are followed with the key only to the server itself.

Source: Comfy API v2, openapi-v2.yaml of 2026-08-21; recordings of comfy-api-proxy 0.1.6.
"""

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from backend.comfy_cloud import responses as answers
from backend.comfyui.inputs import scratch
from backend.errors import (
    ComfyformError,
    Conflict,
    Forbidden,
    JobExpired,
    NotFound,
    NotSupported,
    RateLimited,
    Unavailable,
)
from backend.files.output_paths import file_name
from backend.flow import (
    RETRY,
    Download,
    Downloaded,
    Flow,
    Form,
    FormFile,
    Progress,
    Reply,
    Retry,
    Send,
    ask,
    download,
    persist,
    send,
)
from backend.jobs.polling import OnStatus, wait_until_ended
from backend.jobs.status import JobStatus
from backend.settings import Secret
from backend.validation.checks import check_id
from backend.validation.json_reader import as_text, needed_text
from backend.verbs.media_kind import kind_of
from backend.verbs.result import MEDIA
from backend.verbs.verb import Graph

ASSET: Final = "asset:"
"""Begins the name of an asset where a graph or a `GeneratedFile` names a file."""
MOST_POLL_S: Final = 2.0


class ComfyApi:
    """One server that speaks the Comfy API v2, and what graphs are made for.

    Args:
        url: without ``/api/v2``.
        key: its API key; your own proxy may need none.
        clock: monotonic seconds.
        retry: for calls that may be repeated.
    """

    def __init__(
        self,
        url: str,
        key: Secret | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        retry: Retry = RETRY,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/api/v2")
        self._key = key
        self._clock = clock
        self._retry = retry
        self._uploads: dict[str, str] = {}  # name in a graph → asset id; one dict operation each: thread-safe

    @property
    def origin(self) -> str:
        """Its name as the holder of files."""
        return f"cloud {self.url}"

    def object_info(self, class_type: str = "") -> Flow[Mapping[str, Any]]:  # noqa: ARG002
        """Return {}: definitions of nodes are not shown."""
        yield from ()
        return {}

    def metadata(self, folder: str, filename: str) -> Flow[Mapping[str, str]]:  # noqa: ARG002
        """Return {}: models are not shown."""
        yield from ()
        return {}

    def read(self, name: str) -> Flow[bytes | None]:  # noqa: ARG002
        """Return None: what lies beside an input is not shown."""
        yield from ()
        return None

    def has(self, name: str, size_bytes: int) -> Flow[bool]:  # noqa: ARG002  # the name tells the content
        """Tell whether this process sent a file up, and it is still there."""
        asset_id = self._uploads.get(name)
        if asset_id is None:
            return False
        reply = yield from self._send(self._get(f"/assets/{quote(asset_id, safe='')}"))
        return reply.ok

    def upload(self, source: Path | bytes, name: str, *, subfolder: str = "") -> Flow[str]:
        """Send a file up as an asset, and return the name that stands for it in a graph."""
        form = Form(
            fields={"content_type": "application/octet-stream", "file_path": name},
            file=FormFile(name="file", filename=name, source=source),
        )
        step = Send("POST", f"{self.url}/api/v2/assets", form=form, key=self._key, timeout_s=300.0)
        # Without an idempotency key: the same bytes sent twice are the same blob.
        asset = yield from persist(lambda: self._answer(step, f"Upload {name}"), retry=self._retry)
        stands_for = f"{subfolder}/{name}" if subfolder else name
        self._uploads[stands_for] = needed_text(asset, "id", "The uploaded asset")
        return stands_for

    def fetch(self, name: str, to: Path) -> Flow[Downloaded]:
        """Write an asset to disk. Other files of that ComfyUI are not shown."""
        asset_id = self._asset_id(name)
        if asset_id is None:
            raise NotSupported(f"The Comfy API does not show {name}.")
        return (yield from self.save({"id": asset_id, "name": name}, to))

    def with_references(self, graph: Graph) -> Flow[Graph]:
        """Return a graph with references in place of the names of assets."""
        for value in [value for node in graph.values() for value in node["inputs"].values()]:
            if isinstance(value, str) and value.startswith(ASSET) and value not in self._uploads:
                yield from self._own_asset(value)
        return {
            node_id: {**node, "inputs": {name: self._value(value) for name, value in node["inputs"].items()}}
            for node_id, node in graph.items()
        }

    def _value(self, value: Any) -> Any:
        asset_id = self._asset_id(value) if isinstance(value, str) else None
        return {"__type": "core/ASSET", "info": {"id": asset_id}} if asset_id else value

    def _asset_id(self, name: str) -> str | None:
        known = self._uploads.get(name)
        return name.removeprefix(ASSET) if known is None and name.startswith(ASSET) else known

    def _own_asset(self, name: str) -> Flow[None]:
        """Make an output be an asset of its own, where the server gave it no UUID of one.

        Source: comfy-api-proxy 0.1.6 names outputs by tokens, and looks for them among ComfyUI's inputs.
        """
        asset_id = name.removeprefix(ASSET)
        try:
            uuid.UUID(asset_id)
        except ValueError:
            asset = yield from self._asset(asset_id)
            filename = file_name(as_text(asset.get("file_path")))
            with scratch() as folder:
                yield from self.save({**asset, "name": filename}, folder / filename)
                sent = yield from self.upload(folder / filename, filename, subfolder=asset_id)
            self._uploads[name] = self._uploads[sent]

    def _asset(self, asset_id: str) -> Flow[Mapping[str, Any]]:
        step = self._get(f"/assets/{quote(asset_id, safe='')}")
        return (yield from persist(lambda: self._answer(step, "Ask for an asset"), retry=self._retry))

    def health(self) -> Flow[Mapping[str, Any]]:
        """Ask a proxy how it is; elsewhere ask for a job that does not exist.

        Raises:
            ApiError: it does not run, or does not take the key.
        """
        reply = yield from self._send(self._get("/health", timeout_s=10.0))
        if reply.status != 404:
            return answers.checked(reply, "Check the health of the Comfy API").object()
        reply = yield from self._send(self._get(f"/jobs/{uuid.uuid4()}", timeout_s=10.0))
        if reply.status not in (404, 429):
            answers.checked(reply, "Ask the Comfy API for a job")
        return {}

    def submit(self, graph: Graph, *, deadline_s: float) -> Flow[Mapping[str, Any]]:
        """Queue a graph and return its job.

        A full queue and a deployment that still starts are waited for. All attempts have one
        idempotency key, so that however many arrive, one makes a job.

        Raises:
            JobFailed: the graph is refused; it names nodes, inputs and allowed values.
            Unavailable: with ``sent`` if the job may have been created.
        """
        until_it_has_room = replace(
            self._retry, attempts=math.inf, longest_retry_after_s=math.inf, budget_s=deadline_s
        )
        lost = False
        step = Send(
            "POST",
            f"{self.url}/api/v2/jobs",
            json={"workflow": graph},
            headers={"Idempotency-Key": str(uuid.uuid4())},
            key=self._key,
            timeout_s=60.0,
        )

        def once() -> Flow[Mapping[str, Any]]:
            nonlocal lost
            try:
                reply = yield from self._send(step)
                if reply.status == 422 and answers.error_of(reply).get("code") == "invalid_workflow":
                    raise answers.refused(answers.error_of(reply), graph)
                return answers.checked(reply, "Submit the job").object()
            except Unavailable as error:
                lost = lost or error.sent
                raise

        def when(error: ComfyformError) -> bool | Retry:
            return until_it_has_room if isinstance(error, RateLimited) else error.retryable

        try:
            return (yield from persist(once, retry=self._retry, when=when, clock=self._clock))
        except Conflict as error:
            if not lost or "idempotency_key_reuse" not in error.body:
                raise
            raise Unavailable(
                f"Whether {self.url} took the job is not known: its answer was lost.",
                hint="Nothing was sent twice. Look at its list of jobs before you run it again.",
            ) from error

    def job(self, job_id: str, link: str = "") -> Flow[Mapping[str, Any]]:
        """Return a job as it is now.

        Args:
            job_id: its id.
            link: where the server said that it is; followed only to that server itself.

        Raises:
            JobExpired: it is not known (any more).
        """
        url = answers.link_address(self.url, link) if link else ""
        if not answers.is_same_server(url, self.url):
            url = f"{self.url}/api/v2/jobs/{check_id(job_id)}"
        try:
            return (yield from self._answer(Send("GET", url, key=self._key), "Ask for the job"))
        except NotFound:
            raise JobExpired(
                f"{self.url} does not know job {job_id} (any more).",
                job_id=job_id,
                hint="Jobs and their results are kept for a time that the server sets.",
            ) from None

    def wait(
        self,
        job_id: str,
        link: str = "",
        *,
        deadline_s: float,
        on_status: OnStatus,
        graph: Mapping[str, Any] | None = None,
    ) -> Flow[Mapping[str, Any]]:
        """Wait for a job to end well, and return it. It goes on whatever happens here.

        Yields a `backend.contract.RunProgress` whenever something changes; with the names of the nodes where
        the graph is given.

        Raises:
            JobFailed, JobCancelled, JobExpired: it ended badly.
            WaitTimeout: the deadline passed.
        """
        job: Mapping[str, Any] = {}
        told: Mapping[str, Any] = {}
        expired = 0

        def look() -> Flow[JobStatus]:
            nonlocal job, told, expired
            job = yield from self.job(job_id, link)
            status = answers.status_of(job)
            # A proxy calls a job expired also for the moment in which ComfyUI moves it from its queue
            # to its history, hence thrice.
            expired = expired + 1 if status.state == "TIMED_OUT" else 0
            if expired in (1, 2):
                return JobStatus(id=job_id, state="IN_PROGRESS")
            if (news := answers.progress_of(job, graph or {})) != told:
                told = news
                yield Progress(news)
            return status

        yield from wait_until_ended(
            look,
            job_id,
            deadline_s=deadline_s,
            delay=lambda waited: min(0.05 + 0.1 * waited, MOST_POLL_S),
            clock=self._clock,
            on_status=on_status,
        )
        return answers.ended_well(job)

    def cancel(self, job_id: str) -> Flow[bool]:
        """Ask for a job's end; False where it is not known (any more)."""
        step = Send(
            "POST", f"{self.url}/api/v2/jobs/{check_id(job_id)}/cancel", key=self._key, timeout_s=10.0
        )
        try:
            yield from persist(lambda: self._answer(step, "Cancel the job"), retry=self._retry)
        except NotFound:
            return False
        return True

    def save(self, asset: Mapping[str, Any], to: Path) -> Flow[Downloaded]:
        """Write an output or asset to disk; a new link is requested if it is missing or expired."""
        name = as_text(asset.get("name"))
        if url := as_text(asset.get("url")):
            with contextlib.suppress(Forbidden, NotFound):
                return (yield from self._download(url, to, name))
        fresh = yield from self._asset(needed_text(asset, "id", f"The output {name}"))
        return (yield from self._download(needed_text(fresh, "url", f"The asset of {name}"), to, name))

    def text(self, output: Mapping[str, Any]) -> Flow[str]:
        """Read an output that is a text."""
        url, key = self._linked(needed_text(output, "url", "The output"))
        step = Send("GET", url, key=key, follow_redirects=True)
        return (yield from ask(step, f"Fetch {as_text(output.get('name'))}")).text

    def _download(self, link: str, to: Path, what: str) -> Flow[Downloaded]:
        url, key = self._linked(link)
        step = Download(url=url, key=key, to=to, what=what, media=kind_of(what) in MEDIA)
        return (yield from download(step))

    def _linked(self, link: str) -> tuple[str, Secret | None]:
        """A link's address and its key: a signed link is on another host, where the key must not go."""
        url = answers.link_address(self.url, link)
        return url, self._key if answers.is_same_server(url, self.url) else None

    def _get(self, path: str, timeout_s: float = 30.0) -> Send:
        return Send("GET", f"{self.url}/api/v2{path}", key=self._key, timeout_s=timeout_s)

    def _answer(self, step: Send, what: str) -> Flow[Mapping[str, Any]]:
        return answers.checked((yield from self._send(step)), what).object()

    def _send(self, step: Send) -> Flow[Reply]:
        try:
            return (yield from send(step))
        except Unavailable as error:
            if not error.sent:
                error.hint = "Start the server, or set COMFY_API_URL to the address of one that runs."
            raise
