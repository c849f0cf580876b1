"""What ComfyUI says: refusals, failures and outputs, read into errors and values. Pure.

Source: recordings prompt_errors, execution_error_*, interrupt_running and wf_* of v0.29.0 and v0.3.64.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backend.errors import JobCancelled, JobError, JobFailed
from backend.jobs.status import MAX_WORKER_ERROR
from backend.validation.json_reader import as_list, as_number, as_object, as_text, as_texts, shape_of
from backend.validation.printable import plain, shortened, visible
from backend.verbs.media_kind import kind_of
from backend.verbs.result import Kind

ALLOWED_SHOWN: Final = 12
ERROR_SHOWN: Final = 600
"""Characters of a node's error that a message repeats."""
_TEXT_KEYS: Final = ("text", "texts", "string", "strings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One thing that a run gave: a file under ComfyUI's folders, or a text."""

    node_id: str
    filename: str
    subfolder: str = ""
    folder: str = "output"
    text: str | None = None

    @property
    def kind(self) -> Kind:
        """What it is, by its suffix."""
        return kind_of(self.filename)

    @property
    def annotated(self) -> str:
        """How LoadImage and LoadAudio of the same ComfyUI name it."""
        path = f"{self.subfolder}/{self.filename}" if self.subfolder else self.filename
        return f"{path} [{self.folder}]"

    @property
    def query(self) -> dict[str, str | int]:
        """The query of ``/view``."""
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.folder}


def view_query(name: str) -> dict[str, str | int]:
    """The query of ``/view`` for a file as LoadImage names it: ``a/b.png`` or ``a/b.png [output]``."""
    found = re.fullmatch(r"(.*) \[(input|output|temp)\]", name)
    path, folder = (found[1], found[2]) if found else (name, "input")
    subfolder, _, filename = path.rpartition("/")
    return {"filename": filename, "subfolder": subfolder, "type": folder}


def outputs(entry: Mapping[str, Any]) -> list[Output]:
    """List what a run gave, in the order of the nodes; previews only where nothing was saved.

    Any object with a ``filename`` counts, in a list or alone, whatever its key: nodes use images, gifs,
    videos, audio and names of their own. A file that is named twice counts once.
    """
    found: dict[tuple[Any, ...], Output] = {}
    for node_id, values in as_object(entry.get("outputs")).items():
        for output in _of_node(node_id, values):
            place = (output.folder, output.subfolder, output.filename, output.text)
            found.setdefault(place, output)
    saved = [output for output in found.values() if output.folder == "output"]
    return saved or list(found.values())


def _of_node(node_id: str, values: Any) -> Iterator[Output]:
    """What one node gave: usually an object of lists; a list or a text alone is read too."""
    for key, items in values.items() if isinstance(values, Mapping) else [("", values)]:
        for number, item in enumerate(items if isinstance(items, list) else [items]):
            name = item.get("filename") if isinstance(item, Mapping) else None
            if isinstance(item, Mapping) and isinstance(name, str) and name:
                yield Output(
                    node_id=node_id,
                    filename=name,
                    subfolder=as_text(item.get("subfolder")),
                    folder=as_text(item.get("type")) or "output",
                )
            elif key in _TEXT_KEYS and isinstance(item, str):
                suffix = f"_{number + 1}" if number else ""
                yield Output(node_id=node_id, filename=f"text_{node_id}{suffix}.txt", text=item)


def nothing_given(entry: Mapping[str, Any]) -> JobFailed:
    """The error of a run that ended well and named no file; it says what its nodes gave instead."""
    given = [
        f"node {node_id}: {shape_of(value)}" for node_id, value in as_object(entry.get("outputs")).items()
    ]
    said = f"; its history names {'; '.join(given[:ALLOWED_SHOWN])}" if given else ""
    return JobFailed(
        f"The run succeeded but produced no file{said}.",
        hint="The workflow should end in a node that saves, like SaveImage. A node that saves without "
        "telling ComfyUI leaves its files in ComfyUI's output folder.",
    )


def answered_from_cache(entry: Mapping[str, Any]) -> bool:
    """Whether ComfyUI skipped nodes of this run, because it remembered their results."""
    messages = as_list(as_object(entry.get("status")).get("messages"))
    return any(
        message[0] == "execution_cached" and bool(as_list(as_object(message[1]).get("nodes")))
        for message in messages
        if isinstance(message, list) and len(message) > 1
    )


def queued_runs(items: Any) -> list[tuple[float, str]]:
    """Numbers and ids of a list of ``/queue``, whose items are ``[number, prompt id, …]``; sorted by number.

    Forks give objects, and numbers may be null.
    """
    found = []
    for item in as_list(items):
        number, prompt_id = (
            (item.get("number"), item.get("prompt_id"))
            if isinstance(item, Mapping)
            else (item[0], item[1])
            if isinstance(item, list) and len(item) > 1
            else (None, None)
        )
        if isinstance(prompt_id, str):
            found.append((as_number(number) or 0.0, prompt_id))
    return sorted(found, key=lambda run: run[0])


def working(
    node: Any, graph: Mapping[str, Any], value: float | None = None, most: float | None = None
) -> dict[str, Any]:
    """Say how far a run is, as far as it is known, in the words of `backend.contract.RunProgress`.

    Args:
        node: id of the node that works now.
        graph: what runs; {} where it is not known.
        value, most: the node's step, of how many.
    """
    told: dict[str, Any] = {"state": "running"}
    if node is not None:
        told["node"] = str(node)
    if (kind := class_type_of(graph, node)) != "?":
        told["class_type"] = kind
    if value is not None and most:
        told |= {"value": value, "max": most, "percent": int(100 * value / most)}
    return told


def class_type_of(graph: Mapping[str, Any], node_id: Any) -> str:
    """The class of a node of a graph; "?" where it is not known."""
    node = graph.get(str(node_id))
    return str(node.get("class_type", "?")) if isinstance(node, Mapping) else "?"


def failure(entry: Mapping[str, Any], prompt_id: str) -> JobError:
    """The error of a run that ended with ``status_str`` "error"."""
    messages = as_list(as_object(entry.get("status")).get("messages"))
    events = [message for message in messages if isinstance(message, list) and len(message) > 1]
    for event, data in reversed([(message[0], as_object(message[1])) for message in events]):
        if event == "execution_interrupted":
            return JobCancelled(
                f"The run was interrupted at {_node_of(data)}.",
                job_id=prompt_id,
            )
        if event == "execution_error":
            return _execution_error(data, prompt_id)
    return JobFailed(f"The run {prompt_id} failed, and ComfyUI does not say why.", job_id=prompt_id)


def _execution_error(data: Mapping[str, Any], prompt_id: str) -> JobFailed:
    message = plain(as_text(data.get("exception_message"))).strip()
    kind = as_text(data.get("exception_type"))
    told = visible(summary(message)).rstrip(".: ")
    reason = ": ".join(part for part in (kind.rpartition(".")[2], told) if part) or "no reason given"
    traceback = "".join(as_texts(data.get("traceback")))
    return JobFailed(
        f"{_node_of(data)} failed: {reason}.",
        job_id=prompt_id,
        hint=remedy(f"{kind}: {message}"),
        worker_error=shortened(f"{kind}: {message}\n{traceback}".rstrip(), MAX_WORKER_ERROR),
        output={"node_id": data.get("node_id"), "node_type": data.get("node_type"), "exception_type": kind},
    )


def _node_of(data: Mapping[str, Any]) -> str:
    node_id, kind = as_text(data.get("node_id")), as_text(data.get("node_type"))
    return f"node {node_id or '?'}{f' ({kind})' if kind else ''}"


def summary(message: str) -> str:
    """Write an exception's message on one line: whole where it is short, else its start and its end.

    The first line alone may only announce the cause ("Likely causes:"), and the last may only give advice.
    """
    return shortened(" ".join(message.split()), ERROR_SHOWN)


def remedy(said: str) -> str | None:
    """What helps against an error of a node, by its words; None where nothing is known."""
    return next((hint for pattern, hint in _REMEDIES if re.search(pattern, said)), None)


_REMEDIES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"OutOfMemoryError|out of memory",
        "The GPU is out of memory: a smaller picture (lipsync: min_resolution) or a larger GPU helps.",
    ),
    (
        r"Please download the model first",
        "SONIC's own files are missing: audio2token.pth, audio2bucket.pth, yoloface_v5m.pt in models/sonic.",
    ),
    (
        # Source: the SONIC pack hands None on when it finds no face (facts, comfyui-mcp.md 3.3).
        r"'NoneType' object has no attribute 'items'",
        "SONIC found no face: use a frontal portrait whose face fills about half of the picture.",
    ),
    (
        r"LocalEntryNotFoundError",
        "The node wants to download its model and cannot: provision it (`inv models.sync`).",
    ),
    (
        r"SafetensorError|InvalidHeaderDeserialization|unexpected EOF|invalid load key",
        "The model file is damaged: `inv models.verify --deep` finds it.",
    ),
)
