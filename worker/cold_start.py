"""How long this worker took from the container's first process to its first answer, part by part.

``code_s``, ``ops_s`` and ``generation_s`` are measured by `worker.runtime.start` and come in COMFYFORM_START;
they are absent in an image that brings its own packages.
"""

import json
import threading
import time
from collections.abc import Mapping
from typing import Any


class ColdStart:
    """The times of one worker's start, in seconds.

    Attributes:
        notes: what was not done as it should be, such as giving up root.
    """

    def __init__(self, text: str, *, began: float) -> None:
        """Read what the earlier stages measured.

        Args:
            text: COMFYFORM_START, a JSON object; empty in an image.
            began: `time.time()` at this program's start, where no earlier stage measured one.
        """
        earlier: dict[str, Any] = json.loads(text) if text else {}
        self.notes: list[str] = list(earlier.pop("notes", []))
        self._began = float(earlier.pop("began_at", began))
        self._times: dict[str, Any] = earlier
        self._lock = threading.Lock()
        self._answered = False

    def note(self, name: str, since: float) -> None:
        """Note how long a part took, from a `time.time()` until now."""
        with self._lock:
            self._times.setdefault(name, round(time.time() - since, 3))

    def times(self) -> dict[str, Any]:
        """Return the parts that were measured so far."""
        with self._lock:
            return dict(self._times)

    def first(self, answer: Mapping[str, Any], comfyui: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the times to the first job's answer; later ones stay as they are.

        Args:
            answer: the job's part of the answer.
            comfyui: times of ComfyUI's own start.
        """
        with self._lock:
            if self._answered:
                return answer
            self._answered = True
            self._times |= {**comfyui, "first_job_s": round(time.time() - self._began, 3)}
            return {**answer, "cold_start": dict(self._times)}
