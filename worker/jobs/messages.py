"""A job as RunPod hands it over, read into a request; and the frame of every answer. Pure.

Accepts this project's own form, the field names of the origin's clients and
handlers (facts: comfyui-mcp 2.7), and the input of RunPod's worker-comfyui.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from backend.contract import ACTIONS, CONTRACT, Action, InputFile, OutputFile
from backend.errors import ComfyformError, InvalidArgument, InvalidJson, JobFailed
from backend.validation.json_reader import read_json
from backend.verbs.catalog import find, verbs

Form = Literal["own", "worker-comfyui"]

ENVELOPE: Final = frozenset({"inputs", "images", "contract", "journal_key", "comfy_org_api_key"})
"""Fields of a job that are not arguments. The last is worker-comfyui's key for paid nodes; it is ignored."""

CARRIED_S: Final = 5.0
"""Kept from RunPod's time limit, so that the worker's own answer is the one that arrives."""


@dataclass(frozen=True, slots=True)
class Request:
    """One job.

    Attributes:
        job_id: RunPod's name for it.
        action: what to do.
        params: the other fields, without nulls, under their own names.
        inputs: files that the job brings along.
        form: whose form the input was in; the answer takes the same.
        deadline_s: seconds that RunPod gives the job, where the job says so.
    """

    job_id: str
    action: Action
    params: Mapping[str, Any]
    inputs: tuple[InputFile, ...] = ()
    form: Form = "own"
    deadline_s: float | None = field(default=None)


def read(job: Mapping[str, Any]) -> Request:
    """Read a job.

    Args:
        job: ``{"id", "input", …}`` as the SDK gives it.

    Raises:
        InvalidArgument: the input has no form that this worker knows.
    """
    given = job.get("input")
    if isinstance(given, str):
        # worker-comfyui takes the object as a text, too.
        with contextlib.suppress(InvalidJson):
            given = read_json(given, what="The job's input")
    if not isinstance(given, Mapping):
        raise InvalidArgument(
            f"The job's input is {type(given).__name__}, not an object.",
            hint='Send {"input": {"action": "portrait", "prompt": "…"}}.',
        )
    asked = given.get("contract", CONTRACT)
    if not isinstance(asked, int) or asked > CONTRACT:
        raise InvalidArgument(
            f"The job speaks contract {asked!r}, and this worker understands {CONTRACT}.",
            hint="Deploy the worker image that belongs to the client's version of comfyform.",
        )
    # A null defeats a default; clients that cannot leave a field out mean "not given".
    params = {str(name): value for name, value in given.items() if value is not None}
    foreign = "action" not in params and "workflow" in params
    action = params.pop("action", "workflow" if foreign else "portrait")
    if foreign:
        # Its clients send what is their own along, such as a user's id, and worker-comfyui ignores it.
        known = {*find("workflow").params, *ENVELOPE, "workflow", "deliver"}
        params = {name: value for name, value in params.items() if name in known}
    if action not in ACTIONS:
        raise InvalidArgument(f"Unknown action {action!r}.", hint=f"Choose one of {', '.join(ACTIONS)}.")
    return Request(
        job_id=str(job.get("id", "")),
        action=action,
        params=_own_names(action, params),
        inputs=_inputs(params),
        form="worker-comfyui" if foreign else "own",
        deadline_s=_deadline_s(job.get("policy")),
    )


def _own_names(action: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the fields under their own names, without those that the envelope reads."""
    result = {name: value for name, value in params.items() if name not in ENVELOPE}
    for other, name in _aliases(action):
        if other in result:
            value = result.pop(other)
            # The oldest handler took a bare file name and looked for it in voices/.
            bare = other == "sample" and isinstance(value, str) and "/" not in value
            # The name itself wins where both are given.
            result.setdefault(name, f"voices/{value}" if bare else value)
    return result


def _aliases(action: str) -> list[tuple[str, str]]:
    """Return the other names that an action's fields have, each with the name itself."""
    verb = verbs().get(action)
    return [(other, name) for name, spec in verb.params.items() for other in spec.aliases] if verb else []


def _inputs(params: Mapping[str, Any]) -> tuple[InputFile, ...]:
    """Read the files that come along, in our form and in worker-comfyui's."""
    files = params.get("inputs", [])
    images = params.get("images", []) if "workflow" in params else []
    for name, entries in (("inputs", files), ("images", images)):
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise InvalidArgument(f"{name!r} must be a list of objects.")
    read_images = [{"name": image.get("name"), "data": image.get("image")} for image in images]
    return tuple(cast("InputFile", dict(entry)) for entry in (*files, *read_images))


def _deadline_s(policy: object) -> float | None:
    """Return the seconds that RunPod allows the job, less what the answer's way takes."""
    limit_ms = policy.get("executionTimeout") if isinstance(policy, Mapping) else None
    if not isinstance(limit_ms, int | float) or limit_ms <= 0:
        return None
    return max(1.0, limit_ms / 1000 - CARRIED_S)


def success(request: Request, worker_version: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Frame an answer, in the form that the job came in."""
    if request.form == "worker-comfyui":
        rest = {name: value for name, value in answer.items() if name != "files"}
        answer = rest | {"images": [_image(file) for file in answer.get("files", ())]}
    return _sendable(
        {
            "contract": CONTRACT,
            "worker_version": worker_version,
            "version": worker_version,  # the origin's clients read this name
            "action": request.action,
            "status": "success",
            **answer,
        }
    )


def _image(file: OutputFile) -> dict[str, Any]:
    """Return a file as worker-comfyui does; a file on the volume, which it cannot express, is its own type.

    Source: runpod-workers/worker-comfyui d2a5572 (facts: comfyui.md 8).
    """
    for way, name in (("data", "base64"), ("url", "s3_url"), ("volume_path", "volume_path")):
        if way in file:
            return {"filename": file["filename"], "type": name, "data": file[way]}  # type: ignore[literal-required]
    return {"filename": file["filename"]}


def failure(error: BaseException, worker_version: str, action: str) -> dict[str, Any]:
    """Frame a failure: the SDK takes ``error`` out and ends the job FAILED with it.

    The error stands alone: whether RunPod keeps the other fields of a failed job is not documented.
    """
    if isinstance(error, ComfyformError):
        text = str(error)
    else:
        text = (
            f"The worker failed at {action}: {type(error).__name__}: {error}. "
            "This is a fault of the worker; its log has the traceback."
        )
    answer = {
        "error": text,
        "error_type": type(error).__name__,
        "contract": CONTRACT,
        "worker_version": worker_version,
        "action": action,
    }
    # What a program can use of it: node_id and exception_type, or missing_models.
    details = {"details": dict(error.output)} if isinstance(error, JobFailed) and error.output else {}
    return _sendable(answer | details)


def _sendable(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer that the SDK can send: it dies of half a character, and RunPod runs the job once more.

    A file's name may hold one, see `os.fsdecode`. Source: runpod 1.12, rp_http, read 2026-11-24.
    """
    text = json.dumps(answer, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return cast("dict[str, Any]", json.loads(text.encode(errors="replace")))
    return answer
