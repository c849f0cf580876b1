"""Workflows for the conformance run, made from the nodes that a ComfyUI has. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from backend.comfyui.refusals import combo_options

Graph = dict[str, dict[str, Any]]
_PLAIN: Final[Mapping[str, Any]] = {"INT": 1, "FLOAT": 1.0, "STRING": "", "BOOLEAN": False}
SOURCES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "IMAGE": ("EmptyImage", {"width": 64, "height": 48, "batch_size": 8, "color": 0x336699}),
    "AUDIO": ("EmptyAudio", {"duration": 1.0, "sample_rate": 44100, "channels": 2}),
    "LATENT": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
    "TEXT": ("PrimitiveString", {"value": "hello ✓ 日本"}),
}
OUTPUTS: Final[Mapping[str, tuple[str, str, str, Mapping[str, Any], str]]] = {
    "PNG": ("SaveImage", "images", "IMAGE", {}, "image"),
    "preview": ("PreviewImage", "images", "IMAGE", {}, "image"),
    "animated WebP": ("SaveAnimatedWEBP", "images", "IMAGE", {"fps": 8.0}, "image"),
    "animated PNG": ("SaveAnimatedPNG", "images", "IMAGE", {"fps": 8.0}, "image"),
    "WebM": ("SaveWEBM", "images", "IMAGE", {"fps": 8.0, "codec": "vp9"}, "video"),
    "VHS MP4": (
        "VHS_VideoCombine",
        "images",
        "IMAGE",
        {"format": "video/h264-mp4", "frame_rate": 8},
        "video",
    ),
    "VHS GIF": ("VHS_VideoCombine", "images", "IMAGE", {"format": "image/gif", "frame_rate": 8}, "image"),
    "FLAC": ("SaveAudio", "audio", "AUDIO", {}, "audio"),
    "MP3": ("SaveAudioMP3", "audio", "AUDIO", {}, "audio"),
    "Opus": ("SaveAudioOpus", "audio", "AUDIO", {}, "audio"),
    "audio preview": ("PreviewAudio", "audio", "AUDIO", {}, "audio"),
    "latent": ("SaveLatent", "samples", "LATENT", {}, "file"),
    "text": ("PreviewAny", "source", "TEXT", {}, "text"),
}
"""Name → class, the input that takes what is saved, its type, further values, the type of the file."""


def node(definitions: Mapping[str, Any], class_type: str, **values: Any) -> dict[str, Any]:
    """Make a node with its required inputs at their defaults.

    Raises:
        KeyError: this ComfyUI does not have it.
    """
    inputs = {}
    for name, spec in (definitions[class_type]["input"].get("required") or {}).items():
        options = combo_options(spec)
        limits = spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
        if "default" in limits:
            inputs[name] = limits["default"]
        elif options:
            inputs[name] = options[0]
        elif str(spec[0]).startswith("COMFY_DYNAMICCOMBO"):
            inputs[name] = limits["options"][0]["key"]  # SaveVideo's codec, since v0.33
        elif spec[0] in _PLAIN:
            inputs[name] = _PLAIN[spec[0]]
    return {"class_type": class_type, "inputs": inputs | values}


def output(definitions: Mapping[str, Any], name: str, prefix: str = "conformance/naïve ü 日本") -> Graph:
    """Make a workflow that gives one kind of output.

    Raises:
        KeyError: this ComfyUI lacks a node of it.
    """
    class_type, input_name, kind, values, _ = OUTPUTS[name]
    source, source_values = SOURCES[kind]
    if "filename_prefix" in definitions[class_type]["input"].get("required", {}):
        values = {**values, "filename_prefix": prefix}
    return {
        "1": node(definitions, source, **source_values),
        "2": node(definitions, class_type, **{input_name: ["1", 0], **values}),
    }


def video(definitions: Mapping[str, Any]) -> Graph:
    """Make a workflow that saves an MP4 with ComfyUI's own nodes."""
    source, values = SOURCES["IMAGE"]
    return {
        "1": node(definitions, source, **values),
        "2": node(definitions, "CreateVideo", images=["1", 0], fps=8.0),
        "3": node(definitions, "SaveVideo", video=["2", 0], filename_prefix="conformance/vidéo"),
    }


def picture(
    checkpoint: str, *, steps: int = 2, seed: int = 1, prompt: str = "a red fox", lora: str = ""
) -> Graph:
    """Make the workflow that every ComfyUI user knows: text to image, 64 by 64."""
    model = "lora" if lora else "checkpoint"
    graph: Graph = {
        "checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "latent": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": [model, 1]}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": [model, 1]}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "seed": seed,
                "steps": steps,
                "cfg": 4.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
                "model": [model, 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
            },
        },
        "decode": {
            "class_type": "VAEDecode",
            "inputs": {"samples": ["sampler", 0], "vae": ["checkpoint", 2]},
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "fox"}},
    }
    if lora:
        graph["lora"] = {
            "class_type": "LoraLoader",
            "inputs": {
                "lora_name": lora,
                "strength_model": 1.0,
                "strength_clip": 1.0,
                "model": ["checkpoint", 0],
                "clip": ["checkpoint", 1],
            },
        }
    return graph
