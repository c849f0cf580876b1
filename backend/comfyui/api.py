"""What can be asked of one ComfyUI, as flows: upload, queue, look, fetch, interrupt.

How a run is waited for is in `backend.comfyui.run`.

Source: recordings of v0.29.0 and v0.3.64; all routes here are the same in both.
"""

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backend.comfyui.refusals import refusal, without_choices
from backend.comfyui.responses import Output, queued_runs, view_query
from backend.errors import (
    ComfyformError,
    InvalidRequest,
    JobFailed,
    Unavailable,
)
from backend.flow import (
    RETRY,
    Download,
    Downloaded,
    Flow,
    Form,
    FormFile,
    Reply,
    Retry,
    Send,
    ask,
    check,
    download,
    persist,
    send,
)
from backend.validation.checks import check_id, is_id
from backend.validation.json_reader import as_object, as_text
from backend.verbs.media_kind import kind_of
from backend.verbs.result import MEDIA


class ComfyUI:
    """One ComfyUI. Holds no connection; safe to share.

    Args:
        url: for example ``http://localhost:8188``.
        retry: for calls that may be repeated.
    """

    def __init__(self, url: str, *, retry: Retry = RETRY) -> None:
        self.url = url.rstrip("/")
        self._retry = retry

    @property
    def origin(self) -> str:
        """Its name as the holder of files."""
        return f"local {self.url}"

    def system_stats(self) -> Flow[Mapping[str, Any]]:
        """Return its version and devices.

        Raises:
            Unavailable: it does not run; the message names COMFYUI_URL.
        """
        return (yield from self._get("/system_stats", "Check the health of ComfyUI"))

    def object_info(self, class_type: str = "") -> Flow[Mapping[str, Any]]:
        """Return the definitions of all nodes, or of one; an unknown one gives ``{}``."""
        path = f"/object_info/{class_type}" if class_type else "/object_info"
        return (yield from self._get(path, "Ask ComfyUI for its nodes"))

    def metadata(self, folder: str, filename: str) -> Flow[Mapping[str, str]]:
        """Return the metadata of a safetensors file; ``{}`` if it has none."""
        step = Send("GET", f"{self.url}/view_metadata/{folder}", query={"filename": filename})
        reply = yield from self._ask(step, f"Read the metadata of {filename}", allow=range(400, 600))
        value = reply.json() if reply.ok and reply.content else {}
        return value if isinstance(value, dict) else {}

    def has(self, name: str, size_bytes: int) -> Flow[bool]:
        """Tell whether a file is there, of the given size; named as LoadImage names it."""
        step = Send("HEAD", f"{self.url}/view", query=view_query(name))
        reply = yield from self._ask(step, f"Look for {name}", allow=(400, 403, 404))
        return reply.ok and reply.headers.get("content-length") == str(size_bytes)

    def read(self, name: str) -> Flow[bytes | None]:
        """Read a small file, named as LoadImage names it; None if the file does not exist."""
        step = Send("GET", f"{self.url}/view", query=view_query(name))
        reply = yield from self._ask(step, f"Read {name}", allow=(400, 403, 404))
        return reply.content if reply.ok else None

    def upload(
        self, source: Path | bytes, name: str, *, subfolder: str = "", overwrite: bool = False
    ) -> Flow[str]:
        """Put a file among the inputs and return the name that ComfyUI gave it.

        Any kind of file may be sent: the route is called ``image`` for all of them.
        """
        form = Form(
            fields={"subfolder": subfolder, "type": "input", "overwrite": "true" if overwrite else "false"},
            file=FormFile(name="image", filename=name, source=source),
        )
        step = Send("POST", f"{self.url}/upload/image", form=form, timeout_s=300.0)
        body = (yield from self._ask(step, f"Upload {name} to ComfyUI")).object()
        stored, where = as_text(body.get("name")) or name, as_text(body.get("subfolder"))
        return f"{where}/{stored}" if where else stored

    def queue(self, graph: Mapping[str, Any], *, client_id: str | None = None) -> Flow[str]:
        """Queue a graph and return its prompt id.

        The id is chosen here, so that a lost answer can be told from a lost request.

        Args:
            graph: in API format.
            client_id: whose websocket hears of it. Without one ComfyUI tells everybody some of it.

        Raises:
            JobFailed: ComfyUI refuses the graph or a part of it; it names nodes, inputs and allowed values.
        """
        import uuid  # slow to load, and needed only when something runs

        prompt_id = str(uuid.uuid4())
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id or os.urandom(16).hex()}
        step = Send("POST", f"{self.url}/prompt", json=body, timeout_s=60.0)
        try:
            reply = yield from send(step)
        except Unavailable as error:
            if not error.sent or not (yield from self.knows(prompt_id)):
                raise self._not_there(error) from error
            return prompt_id
        if reply.status == 400:
            raise (yield from self._refusal(_parsed(reply), graph))
        if reply.status == 500:
            # Source: prompt_errors, ui_format_workflow: what it cannot read makes it fail without a reason.
            raise InvalidRequest(
                "ComfyUI cannot read the workflow (it answered 500).",
                hint="Export it in API format: Workflow > Export (API).",
                status=500,
                method="POST",
                url=reply.url,
                body=reply.text[:500],
            )
        answer = as_object(check(reply, "Queue the workflow").json())
        given = as_text(answer.get("prompt_id"))
        queued = given if is_id(given) else prompt_id
        if answer.get("node_errors"):
            # Partly refused: the good outputs would run alone, which nobody asked for.
            yield from self.interrupt(queued)
            raise (yield from self._refusal(answer, graph))
        return queued

    def _refusal(self, body: Any, graph: Mapping[str, Any]) -> Flow[JobFailed]:
        """Make the error of a refusal, with the choices that ComfyUI leaves out of it."""
        definitions: dict[str, Any] = {}
        with contextlib.suppress(ComfyformError):
            for class_type in without_choices(body):
                definitions |= yield from self._once(
                    f"/object_info/{quote(class_type, safe='')}", "Look up a node"
                )
        return refusal(body, graph, definitions)

    def interrupt(self, prompt_id: str) -> Flow[None]:
        """Take one run out of the queue, or stop it at its next step.

        Source: ``/interrupt`` without a prompt_id stops whatever runs; with one it stops only that
            (recordings interrupt_running, misc_posts).
        """
        once = Retry(attempts=2, first_s=self._retry.first_s, jitter=self._retry.jitter)
        for path, body in (("/queue", {"delete": [prompt_id]}), ("/interrupt", {"prompt_id": prompt_id})):
            step = Send("POST", self.url + path, json=body, timeout_s=5.0)
            yield from ask(step, f"Stop the run {prompt_id}", retry=once)

    def history(self, prompt_id: str) -> Flow[Mapping[str, Any] | None]:
        """Return a run's history entry, or None while it has none."""
        path = f"/history/{check_id(prompt_id)}"
        entry = (yield from self._once(path, "Ask for the run")).get(prompt_id)
        return entry if isinstance(entry, dict) else None

    def position(self, prompt_id: str) -> Flow[int | None]:
        """Return a run's place in the queue: 0 while it runs, 1 when it is next; None if it is not there."""
        body = yield from self._once("/queue", "Look into the queue")
        if any(running == prompt_id for _, running in queued_runs(body.get("queue_running"))):
            return 0
        waiting = [run for _, run in queued_runs(body.get("queue_pending"))]
        return waiting.index(prompt_id) + 1 if prompt_id in waiting else None

    def knows(self, prompt_id: str) -> Flow[bool]:
        """Tell whether a run is in the queue or the history."""
        if (yield from self.position(prompt_id)) is not None:
            return True
        return (yield from self.history(prompt_id)) is not None

    def fetch(self, name: str, to: Path) -> Flow[Downloaded]:
        """Write a file to disk, named as LoadImage names it.

        Raises:
            NotFound: it is not there. ComfyUI answers from its cache without looking for the file.
        """
        query = view_query(name)
        media = kind_of(str(query["filename"])) in MEDIA
        step = Download(url=f"{self.url}/view", query=query, to=to, what=name, media=media)
        return (yield from download(step, retry=self._retry))

    def free(self) -> Flow[None]:
        """Drop what is cached, so that the next run makes its files again."""
        step = Send("POST", f"{self.url}/free", json={"free_memory": True})
        yield from self._ask(step, "Drop ComfyUI's cache")

    def view_url(self, output: Output) -> str:
        """The address of an output."""
        return Send("GET", f"{self.url}/view", query=output.query).full_url

    def _get(self, path: str, what: str) -> Flow[Mapping[str, Any]]:
        return (yield from self._ask(Send("GET", self.url + path), what)).object()

    def _once(self, path: str, what: str) -> Flow[Mapping[str, Any]]:
        """Ask without patience of its own, for whoever polls."""
        try:
            return check((yield from send(Send("GET", self.url + path))), what).object()
        except Unavailable as error:
            raise self._not_there(error) from error

    def _ask(self, step: Send, what: str, *, allow: Collection[int] = ()) -> Flow[Reply]:
        """Send what may be repeated; a ComfyUI that cannot be reached at all is an error at once."""

        def once() -> Flow[Reply]:
            try:
                reply = yield from send(step)
                return reply if reply.status in allow else check(reply, what)
            except Unavailable as error:
                raise self._not_there(error) from error

        return (yield from persist(once, retry=self._retry, when=_may_have_arrived))

    def _not_there(self, error: Unavailable) -> Unavailable:
        if error.sent:
            return error
        return Unavailable(
            f"ComfyUI at {self.url} cannot be reached.",
            hint="Start it, or set COMFYUI_URL to the address of one that runs.",
            sent=False,
            method=error.method,
            url=error.url,
        )


def _may_have_arrived(error: ComfyformError) -> bool:
    return isinstance(error, Unavailable) and error.sent


def _parsed(reply: Reply) -> Any:
    with contextlib.suppress(Unavailable):
        return reply.json()
    return {"error": {"message": reply.text[:500]}}
