"""What a waiting person sees of a generation, on stderr: a bar for the steps of a node on a terminal, and a
line when something changes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ops.console.console import Console

OnProgress = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def watching(console: Console) -> Iterator[OnProgress]:
    """Say how a generation goes on, within a ``with``; the same word only once."""
    printed: set[object] = set()
    with console.steps() as bar:

        def tell(event: Mapping[str, Any]) -> None:
            sentence = sentence_of(event)
            steps = event.get("max") if event.get("progress") == "run" else None
            if steps and bar is not None:
                bar(_node(event), event["value"], steps)
                return
            # A log has a line at every tenth of a node's steps, not one a step.
            word = (event.get("node"), 10 * event["value"] // steps) if steps else sentence
            if sentence and word not in printed:
                printed.add(word)
                console.say(sentence)

        yield tell


def _node(event: Mapping[str, Any]) -> str:
    return str(event.get("class_type") or f"node {event.get('node')}")


def sentence_of(event: Mapping[str, Any]) -> str:
    """Put a progress event into words; "" where it is of no interest to people."""
    match event.get("progress"):
        case "job":
            words = {
                "SUBMITTED": "submitted",
                "IN_QUEUE": "waiting for a worker",
                "IN_PROGRESS": "running",
            }
            state = str(event.get("state"))
            return f"job {event.get('job_id')}: {words.get(state, state)}"
        case "run":
            if event.get("state") == "queued":
                return f"waiting in ComfyUI's queue, position {event.get('position')}"
            if event.get("max"):
                return f"{_node(event)}: step {event.get('value'):g} of {event.get('max'):g}"
            return f"running {_node(event)}" if event.get("node") else "running in ComfyUI"
        case "start":
            return f"ComfyUI is {event.get('state')}"
        case "talk":
            return {"tts": "generating speech", "lipsync": "rendering video"}.get(str(event.get("part")), "")
        case "upload":
            return f"sending {event.get('path')}"
        case "fetch":
            return f"fetching {event.get('filename')}"
    return ""
