"""From a checked request to the graph that runs: what a graph needs to know is asked of ComfyUI here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.comfyui.inputs import Target, audio_duration_s, bring, transcript
from backend.comfyui.refusals import combo_options
from backend.flow import Flow
from backend.verbs.catalog import find
from backend.verbs.params import InputLike
from backend.verbs.request import Request

if TYPE_CHECKING:  # loaded with the first call
    from backend.verbs.verb import Planned


def plan(comfyui: Target, request: Request) -> "Flow[Planned]":
    """Bring the inputs and build the graph."""
    return find(request.verb).graph(request, ComfyUIContext(comfyui))


@dataclass(frozen=True, slots=True)
class ComfyUIContext:
    """A ComfyUI as the builders of graphs see it: `backend.verbs.verb.GraphContext`."""

    comfyui: Target

    def bring(self, value: InputLike) -> Flow[str]:
        """Put a file among the inputs, unless it is there; return the name that LoadImage takes."""
        return bring(self.comfyui, value)

    def transcript(self, value: InputLike, name: str) -> Flow[str]:
        """Read what a voice recording says from the text file beside it; "" without one."""
        return transcript(self.comfyui, value, name)

    def audio_duration_s(self, value: InputLike, name: str) -> Flow[float | None]:
        """Measure an audio input; None if it cannot be read."""
        return audio_duration_s(self.comfyui, value, name)

    def options(self, class_type: str, name: str) -> Flow[list[Any]]:
        """Return the values that an input of a node may have; [] if it has no list of them."""
        info = yield from self.comfyui.object_info(class_type)
        inputs = (info.get(class_type) or {}).get("input") or {}
        spec = {**(inputs.get("optional") or {}), **(inputs.get("required") or {})}.get(name) or []
        return combo_options(spec) or []

    def metadata(self, folder: str, filename: str) -> Flow[Mapping[str, str]]:
        """Return the metadata of a model file; {} if it has none."""
        return self.comfyui.metadata(folder, filename)
