"""The arguments of the five verbs: names, types, ranges, defaults. Pure.

One table is what calls, command lines, the MCP server and the worker are
checked against, before anything is sent. A default of None means that it
follows from something else: the checkpoint's architecture, the audio's length.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Required, TypedDict

from backend.contract import Verb
from backend.verbs.result import GeneratedFile

InputLike = str | os.PathLike[str] | GeneratedFile
"""A file to work on: a path here, a file of an earlier result, an ``https://`` address, or a name that
the ComfyUI already has (``avatars/odin.png``)."""

Quality = Literal["draft", "standard", "high", "ultra"]


class Lora(TypedDict, total=False):
    """A LoRA and how strongly it acts."""

    name: Required[str]
    strength_model: float
    strength_clip: float


class PortraitParams(TypedDict, total=False):
    """Arguments of ``portrait``."""

    prompt: Required[str]
    negative_prompt: str
    model: str
    width: int
    height: int
    steps: int
    cfg_scale: float
    sampler: str
    scheduler: str
    loras: list[Lora]
    seed: int
    save_to_avatars: bool
    avatar_name: str
    output_path: str | os.PathLike[str]


class TTSParams(TypedDict, total=False):
    """Arguments of ``tts``."""

    text: Required[str]
    voice_reference: Required[InputLike]
    voice_reference_text: str
    speed: float
    model: str
    model_type: str
    vocoder: Literal["auto", "vocos", "bigvgan"]
    seed: int
    output_path: str | os.PathLike[str]


class LipSyncParams(TypedDict, total=False):
    """Arguments of ``lipsync``."""

    portrait_image: Required[InputLike]
    audio: Required[InputLike]
    duration: float
    inference_steps: int
    fps: float
    svd_checkpoint: str
    sonic_unet: str
    dtype: Literal["fp16", "fp32", "bf16"]
    min_resolution: int
    expand_ratio: float
    dynamic_scale: float
    ip_audio_scale: float
    use_interframe: bool
    seed: int
    output_path: str | os.PathLike[str]


class ImagineParams(TypedDict, total=False):
    """Arguments of ``imagine``."""

    description: Required[str]
    style: str
    negative_prompt: str
    model: str
    width: int
    height: int
    quality: Quality
    loras: list[Lora]
    seed: int
    output_path: str | os.PathLike[str]


class WorkflowParams(TypedDict, total=False):
    """Arguments of ``workflow``: a graph in ComfyUI's API format, and the files that it names."""

    graph: Required[Mapping[str, Any] | str | os.PathLike[str]]
    inputs: Mapping[str, InputLike]
    output_path: str | os.PathLike[str]


class TalkParams(TypedDict, total=False):
    """Arguments of ``talk``: speech from a text and a voice, spoken by a portrait."""

    text: Required[str]
    voice_reference: Required[InputLike]
    portrait_image: Required[InputLike]
    voice_reference_text: str
    speed: float
    inference_steps: int
    fps: float
    seed: int
    output_path: str | os.PathLike[str]


What = Literal[
    "text", "name", "integer", "number", "boolean", "choice", "input", "inputs", "loras", "graph", "path"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One argument.

    Attributes:
        what: its type.
        sentence: what it means.
        low, high: bounds, both allowed.
        step: what an integer must be a multiple of.
        filename: a text that names one file, and no folder.
    """

    what: What
    sentence: str
    required: bool = False
    default: Any = None
    low: float | None = None
    high: float | None = None
    step: int | None = None
    choices: tuple[str, ...] = ()
    filename: bool = False


SEED_MOST: Final = 2**64 - 1
SONIC_SEED_MOST: Final = 2**31 - 1
DEFAULT_NEGATIVE: Final = "low quality, blurry"
DEFAULT_CHECKPOINT: Final = "sd_xl_base_1.0.safetensors"

_OUTPUT = Param(what="path", sentence="Where the result goes; further files get -2, -3 before the suffix.")
_LORAS = Param(what="loras", sentence="LoRAs: a list of {name, strength_model, strength_clip}.")


def _side(name: str) -> Param:
    return Param(
        what="integer", low=64, high=8192, step=8, sentence=f"{name} in pixels; by default the model's own."
    )


def _seed(most: int = SEED_MOST) -> Param:
    return Param(
        what="integer", low=-1, high=most, sentence="The same seed gives the same result; -1 is random."
    )


_OWN: Final[Mapping[Verb, Mapping[str, Param]]] = {
    "portrait": {
        "prompt": Param(what="text", required=True, sentence="What the picture shows."),
        "negative_prompt": Param(
            what="text", default=DEFAULT_NEGATIVE, sentence="What it must not show. Flux ignores it."
        ),
        "model": Param(what="text", sentence=f"Checkpoint file; by default {DEFAULT_CHECKPOINT}."),
        "width": _side("Width"),
        "height": _side("Height"),
        "steps": Param(
            what="integer", low=1, high=200, sentence="Sampling steps; by default the model's own."
        ),
        "cfg_scale": Param(
            what="number",
            low=0,
            high=30,
            sentence="Guidance; by default the model's own.",
        ),
        "sampler": Param(what="text", sentence="Sampler; by default the model's own."),
        "scheduler": Param(what="text", sentence="Scheduler; by default the model's own."),
        "loras": _LORAS,
        "seed": _seed(),
        "save_to_avatars": Param(
            what="boolean",
            default=False,
            sentence="Keep it among ComfyUI's inputs too, as avatars/NAME.",
        ),
        "avatar_name": Param(
            what="text",
            filename=True,
            default="generated_portrait.png",
            sentence="The name to keep it under.",
        ),
        "output_path": _OUTPUT,
    },
    "tts": {
        "text": Param(what="text", required=True, sentence="Text to speak."),
        "voice_reference": Param(
            what="input", required=True, sentence="A recording of the voice to clone, 5 to 15 seconds."
        ),
        "voice_reference_text": Param(
            what="text",
            sentence="What the recording says; by default the .txt file beside it; else the optional model "
            "whisper-large-v3-turbo recognizes it.",
        ),
        "speed": Param(what="number", default=1.0, low=0.25, high=4, sentence="2 speaks twice as fast."),
        "model": Param(what="text", default="F5v1", sentence="F5-TTS model."),
        "model_type": Param(what="text", sentence="Its architecture; by default from the model's name."),
        "vocoder": Param(
            what="choice", default="vocos", choices=("auto", "vocos", "bigvgan"), sentence="Vocoder."
        ),
        "seed": _seed(SONIC_SEED_MOST),
        "output_path": _OUTPUT,
    },
    "lipsync": {
        "portrait_image": Param(what="input", required=True, sentence="A picture with a frontal face."),
        "audio": Param(what="input", required=True, sentence="Recording to speak, at least a second long."),
        "duration": Param(
            what="number", low=1, high=3600, sentence="Seconds of audio to use; by default all of it."
        ),
        "inference_steps": Param(what="integer", default=25, low=1, high=1024, sentence="Sampling steps."),
        "fps": Param(what="number", default=25.0, low=5, high=120, sentence="Frames a second."),
        "svd_checkpoint": Param(
            what="text", default="svd_xt_1_1.safetensors", sentence="SVD checkpoint, in checkpoints/video/."
        ),
        "sonic_unet": Param(what="text", default="unet.pth", sentence="SONIC's UNet, in sonic/."),
        "dtype": Param(
            what="choice", default="fp16", choices=("fp16", "fp32", "bf16"), sentence="Precision."
        ),
        "min_resolution": Param(
            what="integer",
            default=512,
            low=128,
            high=2048,
            step=64,
            sentence="Shorter side in pixels; less needs less memory.",
        ),
        "expand_ratio": Param(
            what="number", default=0.5, low=0.1, high=1, sentence="Room around the face, as a share of it."
        ),
        "dynamic_scale": Param(
            what="number", default=1.0, low=0.5, high=2, sentence="How much the head moves."
        ),
        "ip_audio_scale": Param(
            what="number", default=1.0, low=0.5, high=2, sentence="How closely the mouth follows."
        ),
        "use_interframe": Param(what="boolean", default=True, sentence="Smooth by interpolated frames."),
        "seed": _seed(SONIC_SEED_MOST),
        "output_path": _OUTPUT,
    },
    "imagine": {
        "description": Param(what="text", required=True, sentence="What the picture shows."),
        "style": Param(what="text", sentence="Its style, added to the description."),
        "negative_prompt": Param(
            what="text", default=DEFAULT_NEGATIVE, sentence="What it must not show. Flux ignores it."
        ),
        "model": Param(what="text", sentence=f"Checkpoint file; by default {DEFAULT_CHECKPOINT}."),
        "width": _side("Width"),
        "height": _side("Height"),
        "quality": Param(
            what="choice",
            default="standard",
            choices=("draft", "standard", "high", "ultra"),
            sentence="Number of sampling steps, by name.",
        ),
        "loras": _LORAS,
        "seed": _seed(),
        "output_path": _OUTPUT,
    },
    "workflow": {
        "graph": Param(what="graph", required=True, sentence="A workflow in API format."),
        "inputs": Param(what="inputs", sentence="Files that the graph names: name in the graph → file."),
        "output_path": _OUTPUT,
    },
}

TALK: Final[Mapping[str, tuple[Verb, ...]]] = {
    "text": ("tts",),
    "voice_reference": ("tts",),
    "voice_reference_text": ("tts",),
    "speed": ("tts",),
    "portrait_image": ("lipsync",),
    "inference_steps": ("lipsync",),
    "fps": ("lipsync",),
    "seed": ("tts", "lipsync"),
    "output_path": ("lipsync",),
}
"""Argument of ``talk`` → the verbs that it is handed on to."""

PARAMS: Final[Mapping[Verb, Mapping[str, Param]]] = {
    **_OWN,
    "talk": {name: _OWN[verbs[0]][name] for name, verbs in TALK.items()},
}
"""Verb → argument → what it may be."""
