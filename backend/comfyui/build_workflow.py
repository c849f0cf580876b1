"""From a checked request to the graph that runs: what a graph needs to know is asked of ComfyUI here."""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backend.comfyui.inputs import Target, audio_duration_s, bring, transcript
from backend.comfyui.refusals import combo_options
from backend.comfyui.workflows import Graph
from backend.errors import InvalidArgument
from backend.flow import Flow
from backend.verbs import transcripts
from backend.verbs.params import DEFAULT_CHECKPOINT
from backend.verbs.request import Request

if TYPE_CHECKING:  # each kind of graph is loaded with the first of its kind
    from backend.comfyui.workflows.architectures import Architecture

WHOLE_AUDIO_S = 3600.0
"""Sent where the length could not be read: the node uses what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A graph, ready to queue.

    Attributes:
        seed: the one in it, or None where the graph is the caller's own.
        own: True where the graph is ours and its results have names that no other run has.
    """

    graph: Graph
    seed: int | None = None
    warnings: tuple[str, ...] = ()
    own: bool = True


def plan(comfyui: Target, request: Request) -> Flow[Planned]:
    """Bring the inputs and build the graph."""
    match request.verb:
        case "portrait" | "imagine":
            return (yield from _picture(comfyui, request))
        case "tts":
            return (yield from _speech(comfyui, request))
        case "lipsync":
            return (yield from _talking_head(comfyui, request))
        case "talk":
            return (yield from _talk(comfyui, request))
        case "workflow":
            return (yield from _workflow(comfyui, request))


def seed_of(request: Request) -> int:
    """The seed that was asked for, or a random one that every node takes."""
    seed: int | None = request["seed"]
    return random.randrange(2**31) if seed is None or seed < 0 else seed  # noqa: S311  # a picture's, no secret


def _prefix(request: Request, seed: int) -> str:
    # A name of its own for every run: otherwise ComfyUI answers an identical run from its cache, with
    # the names of files that may be gone (recording cached_output_after_file_deleted).
    return f"comfyform/{request.verb}_{seed}_{os.urandom(4).hex()}"


def _picture(comfyui: Target, request: Request) -> Flow[Planned]:
    from backend.comfyui.workflows.architectures import recognise
    from backend.comfyui.workflows.text_to_image import picture

    checkpoint, warnings = yield from _checkpoint(comfyui, request["model"])
    metadata: Mapping[str, str] = {}
    if checkpoint.endswith(".safetensors"):
        metadata = yield from comfyui.metadata("checkpoints", checkpoint)
    architecture, certain = recognise(checkpoint, metadata)
    if not certain:
        warnings.append(f"What {checkpoint} is could not be told; it is treated as {architecture.name}.")
    seed = seed_of(request)
    values = _portrait if request.verb == "portrait" else _imagine
    graph = picture(
        architecture,
        checkpoint=checkpoint,
        negative_prompt=request["negative_prompt"],
        seed=seed,
        loras=request["loras"] or (),
        filename_prefix=_prefix(request, seed),
        **values(request, architecture),
    )
    return Planned(graph=graph, seed=seed, warnings=tuple(warnings))


def _portrait(request: Request, architecture: "Architecture") -> dict[str, Any]:
    width, height = architecture.portrait
    return {
        "prompt": request["prompt"],
        "width": request["width"] or width,
        "height": request["height"] or height,
        "steps": request["steps"] or architecture.portrait_steps,
        "cfg": architecture.cfg if request["cfg_scale"] is None else request["cfg_scale"],
        "sampler": request["sampler"] or architecture.sampler,
        "scheduler": request["scheduler"] or architecture.scheduler,
    }


def _imagine(request: Request, architecture: "Architecture") -> dict[str, Any]:
    width, height = architecture.picture
    style = request["style"]
    return {
        "prompt": f"{request['description']}, {style}" if style else request["description"],
        "width": request["width"] or width,
        "height": request["height"] or height,
        "steps": architecture.steps[request["quality"]],
        "cfg": architecture.cfg,
        "sampler": architecture.sampler,
        "scheduler": architecture.scheduler,
    }


def _checkpoint(comfyui: Target, wanted: str | None) -> Flow[tuple[str, list[str]]]:
    """Choose the checkpoint: the one asked for, else the default one, else the first that makes pictures."""
    if wanted:
        return wanted, []
    info = yield from comfyui.object_info("CheckpointLoaderSimple")
    node = info.get("CheckpointLoaderSimple") or {}
    spec = ((node.get("input") or {}).get("required") or {}).get("ckpt_name") or []
    names = sorted(str(name) for name in combo_options(spec) or ())
    for name in names:
        if name.rpartition("/")[2] == DEFAULT_CHECKPOINT:
            return name, []
    makers = [name for name in names if not name.startswith(("video/", "F5-TTS/")) and "svd" not in name]
    if not makers:
        return DEFAULT_CHECKPOINT, []
    return makers[0], [f"No model was given and {DEFAULT_CHECKPOINT} is not there: {makers[0]} was used."]


def _speech(comfyui: Target, request: Request) -> Flow[Planned]:
    from backend.comfyui.workflows.f5_tts import speech

    reference = request["voice_reference"]
    voice = yield from bring(comfyui, reference)
    voice_text = transcripts.given(request) or (yield from transcript(comfyui, reference, voice))
    seed = seed_of(request)
    graph = speech(
        voice=voice,
        voice_text=voice_text,
        text=request["text"],
        speed=request["speed"],
        seed=seed,
        model=request["model"],
        model_type=request["model_type"],
        vocoder=request["vocoder"],
        filename_prefix=_prefix(request, seed),
    )
    return Planned(graph=graph, seed=seed)


def _talk(comfyui: Target, request: Request) -> Flow[Planned]:
    """Speech and video in one graph: the speech goes straight into the video."""
    from backend.comfyui.workflows.sonic import talking_head
    from backend.verbs.talk_parts import parts

    # One seed for both, which the result can tell.
    request = replace(request, given={**request.given, "seed": seed_of(request)})
    spoken, shown = parts(request)
    speech = yield from _speech(comfyui, spoken)
    portrait = yield from bring(comfyui, shown["portrait_image"])
    film = talking_head(
        portrait=portrait,
        audio=["speech", 0],
        duration_s=WHOLE_AUDIO_S,
        filename_prefix=_prefix(request, request["seed"]),
        **_sonic(shown),
    )
    nodes = {node_id: node for node_id, node in speech.graph.items() if node_id != "save"}
    return Planned(graph=nodes | film, seed=request["seed"])


def _talking_head(comfyui: Target, request: Request) -> Flow[Planned]:
    from backend.comfyui.workflows.sonic import talking_head

    audio = yield from bring(comfyui, request["audio"])
    length_s = yield from audio_duration_s(comfyui, request["audio"], audio)
    if length_s is not None and length_s < 1.0:
        raise InvalidArgument(f"lipsync: audio is {length_s:.2f} s long, and SONIC needs at least a second.")
    portrait = yield from bring(comfyui, request["portrait_image"])
    wanted: float | None = request["duration"]
    warnings = []
    if wanted is not None and length_s is not None and wanted > length_s + 1:
        warnings.append(f"duration is {wanted:g} s, but the audio ends after {length_s:.1f} s.")
    request = replace(request, given={**request.given, "seed": seed_of(request)})
    seed = request["seed"]
    graph = talking_head(
        portrait=portrait,
        audio=audio,
        duration_s=round(min(wanted or WHOLE_AUDIO_S, length_s or WHOLE_AUDIO_S), 2),
        filename_prefix=_prefix(request, seed),
        **_sonic(request),
    )
    return Planned(graph=graph, seed=seed, warnings=tuple(warnings))


def _sonic(request: Request) -> dict[str, Any]:
    """Return what SONIC is told, by the names that the graph's builder has for it."""
    from backend.comfyui.workflows.sonic import svd_name

    return {
        **{name: request[name] for name in _SONIC},
        "svd_checkpoint": svd_name(request["svd_checkpoint"]),
    }


_SONIC = (
    "seed", "inference_steps", "fps", "sonic_unet", "dtype", "min_resolution", "expand_ratio",
    "dynamic_scale", "ip_audio_scale", "use_interframe",
)  # fmt: skip


def _workflow(comfyui: Target, request: Request) -> Flow[Planned]:
    names: dict[str, str] = {}
    for name, value in (request["inputs"] or {}).items():
        names[name] = yield from bring(comfyui, value)
    return Planned(graph=renamed(request["graph"], names), own=False)


def renamed(graph: Mapping[str, Any], names: Mapping[str, str]) -> Graph:
    """Return a graph with the files it names under the names that ComfyUI gave them."""

    def value_of(value: Any) -> Any:
        return names.get(value, value) if isinstance(value, str) else value

    result: Graph = {}
    for node_id, node in graph.items():
        inputs = {name: value_of(value) for name, value in (node.get("inputs") or {}).items()}
        result[str(node_id)] = {**node, "inputs": inputs}
    return result
