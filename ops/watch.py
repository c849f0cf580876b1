"""What a waiting person sees of a generation: a line when something changes, on stderr."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ops.console import Console

OnProgress = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def watching(console: Console) -> Iterator[OnProgress]:
    """Say how a generation goes on, within a ``with``; the same word only once."""
    said: set[str] = set()

    def tell(event: Mapping[str, Any]) -> None:
        sentence = sentence_of(event)
        if sentence and sentence not in said:
            said.add(sentence)
            console.say(sentence)

    yield tell


def sentence_of(event: Mapping[str, Any]) -> str:
    """Put a progress event into words; "" where it is of no interest to people."""
    match event.get("progress"):
        case "job":
            words = {
                "SUBMITTED": "submitted",
                "IN_QUEUE": "waits for a worker",
                "IN_PROGRESS": "a worker has it",
            }
            state = str(event.get("state"))
            return f"job {event.get('job_id')}: {words.get(state, state)}"
        case "run":
            if event.get("state") == "queued":
                return f"waits in ComfyUI's queue, place {event.get('position')}"
            if event.get("max"):
                return f"node {event.get('node')}: step {event.get('value')} of {event.get('max')}"
            return "ComfyUI works on it"
        case "start":
            return f"ComfyUI is {event.get('state')}"
        case "talk":
            return {"tts": "speaking", "lipsync": "filming"}.get(str(event.get("part")), "")
        case "upload":
            return f"sending {event.get('path')}"
        case "fetch":
            return f"fetching {event.get('filename')}"
    return ""
