"""Nodes that load weights. They read real files: a missing or damaged one fails as it would for real."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from emulator.comfyui.graph.run import Failure, Run
from emulator.comfyui.graph.values import Weights
from emulator.comfyui.nodes.declarations import choice, integer, link, model, node, number, words

HEADER_LIMIT = 100_000_000
SAFETENSORS_ERROR = "safetensors._safetensors_rust.SafetensorError"
CLIP_TYPES = words(
    """stable_diffusion stable_cascade sd3 stable_audio mochi ltxv pixart cosmos lumina2 wan hidream chroma
    ace omnigen2 qwen_image hunyuan_image flux2"""
)
DUAL_CLIP_TYPES = words("sdxl sd3 flux hunyuan_video hidream hunyuan_image kandinsky5 ltxv ace")
DTYPES = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")


def load(run: Run, category: str, name: str) -> Weights:
    """Load a model file.

    Raises:
        Failure: the file is gone, is no safetensors file though it says so, or is bigger than the GPU.
    """
    path = run.library.find(category, name)
    if path is None:
        raise Failure("FileNotFoundError", f"Model in folder '{category}' with filename '{name}' not found.")
    if path not in run.loaded:
        run.wait(run.knobs.load_s)
    size = path.stat().st_size
    if size > run.knobs.vram_gb * 2**30:
        raise out_of_memory(size / 2**30, run.knobs.vram_gb)
    header = read_header(path) if path.suffix == ".safetensors" else {}
    run.loaded.add(path)
    metadata: dict[str, Any] = header.get("__metadata__", {})
    return Weights(path, metadata.get("modelspec.architecture", "unknown"))


def read_header(path: Path) -> dict[str, Any]:
    """Read the JSON header of a safetensors file, and check that the data which it promises is there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise Failure(SAFETENSORS_ERROR, "Error while deserializing header: header too small")
        (length,) = struct.unpack("<Q", start)
        if length > HEADER_LIMIT:
            raise Failure(SAFETENSORS_ERROR, "Error while deserializing header: header too large")
        if length > size - 8:
            raise Failure(SAFETENSORS_ERROR, "Error while deserializing header: invalid header length")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError:
            raise Failure(SAFETENSORS_ERROR, "Error while deserializing header: invalid header") from None
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        raise Failure(
            SAFETENSORS_ERROR, "Error while deserializing header: incomplete metadata, file not fully covered"
        )
    return header


def out_of_memory(wanted_gib: float, has_gib: float) -> Failure:
    """Make torch's complaint about a full GPU."""
    message = (
        f"CUDA out of memory. Tried to allocate {wanted_gib:.2f} GiB. "
        f"GPU 0 has a total capacity of {has_gib:.2f} GiB of which {has_gib / 2:.2f} GiB is free."
    )
    return Failure("torch.OutOfMemoryError", message)


@node(
    "CheckpointLoaderSimple",
    inputs={"ckpt_name": model("checkpoints")},
    outputs=("MODEL", "CLIP", "VAE"),
    category="model/loaders",
    title="Load Checkpoint",
)
def checkpoint_loader(run: Run, ckpt_name: str) -> tuple[Weights, Weights, Weights]:
    """Load an all-in-one checkpoint."""
    weights = load(run, "checkpoints", ckpt_name)
    return weights, weights, weights


@node(
    "ImageOnlyCheckpointLoader",
    inputs={"ckpt_name": model("checkpoints")},
    outputs=("MODEL", "CLIP_VISION", "VAE"),
    category="model/loaders",
    title="Load Checkpoint Image Only (img2vid model)",
    module="comfy_extras.nodes_video_model",
)
def image_only_checkpoint_loader(run: Run, ckpt_name: str) -> tuple[Weights, Weights, Weights]:
    """Load a checkpoint that animates pictures."""
    weights = load(run, "checkpoints", ckpt_name)
    return weights, weights, weights


@node(
    "UNETLoader",
    inputs={"unet_name": model("diffusion_models"), "weight_dtype": choice(*DTYPES)},
    outputs=("MODEL",),
    category="model/loaders",
    title="Load Diffusion Model",
)
def unet_loader(run: Run, unet_name: str, weight_dtype: str) -> tuple[Weights]:
    """Load a diffusion model without its encoders."""
    return (load(run, "diffusion_models", unet_name),)


@node(
    "CLIPLoader",
    inputs={
        "clip_name": model("text_encoders"),
        "type": choice(*CLIP_TYPES),
        "device": choice("default", "cpu", required=False),
    },
    outputs=("CLIP",),
    category="model/loaders",
    title="Load CLIP",
)
def clip_loader(run: Run, clip_name: str, **_: str) -> tuple[Weights]:
    """Load one text encoder."""
    return (load(run, "text_encoders", clip_name),)


@node(
    "DualCLIPLoader",
    inputs={
        "clip_name1": model("text_encoders"),
        "clip_name2": model("text_encoders"),
        "type": choice(*DUAL_CLIP_TYPES),
        "device": choice("default", "cpu", required=False),
    },
    outputs=("CLIP",),
    category="model/loaders",
    title="Load CLIP (Dual)",
)
def dual_clip_loader(run: Run, clip_name1: str, clip_name2: str, **_: str) -> tuple[Weights]:
    """Load a pair of text encoders."""
    load(run, "text_encoders", clip_name2)
    return (load(run, "text_encoders", clip_name1),)


@node(
    "VAELoader",
    inputs={"vae_name": model("vae", "pixel_space")},
    outputs=("VAE",),
    category="model/loaders",
    title="Load VAE",
)
def vae_loader(run: Run, vae_name: str) -> tuple[Weights]:
    """Load a VAE."""
    if vae_name == "pixel_space":
        return (Weights(Path(vae_name), "pixel_space"),)
    return (load(run, "vae", vae_name),)


def _with_lora(weights: Weights, lora: Weights) -> Weights:
    return Weights(weights.path, weights.architecture, (*weights.loras, lora.name))


STRENGTH = number(1.0, -100.0, 100.0)


@node(
    "LoraLoader",
    inputs={
        "model": link("MODEL"),
        "clip": link("CLIP"),
        "lora_name": model("loras"),
        "strength_model": STRENGTH,
        "strength_clip": STRENGTH,
    },
    outputs=("MODEL", "CLIP"),
    category="model/loaders",
    title="Load LoRA (Model and CLIP)",
)
def lora_loader(
    run: Run, model: Weights, clip: Weights, lora_name: str, **_: float
) -> tuple[Weights, Weights]:
    """Put a LoRA on a model and its text encoder."""
    lora = load(run, "loras", lora_name)
    return _with_lora(model, lora), _with_lora(clip, lora)


@node(
    "LoraLoaderModelOnly",
    inputs={"model": link("MODEL"), "lora_name": model("loras"), "strength_model": STRENGTH},
    outputs=("MODEL",),
    category="model/loaders",
    title="Load LoRA",
)
def lora_loader_model_only(run: Run, model: Weights, lora_name: str, strength_model: float) -> tuple[Weights]:
    """Put a LoRA on a model."""
    return (_with_lora(model, load(run, "loras", lora_name)),)


@node(
    "CLIPSetLastLayer",
    inputs={"clip": link("CLIP"), "stop_at_clip_layer": integer(-1, -24, -1, 1)},
    outputs=("CLIP",),
    category="model/conditioning",
    title="CLIP Set Last Layer",
)
def clip_set_last_layer(run: Run, clip: Weights, stop_at_clip_layer: int) -> tuple[Weights]:
    """Skip the last layers of a text encoder."""
    return (clip,)


@node(
    "UpscaleModelLoader",
    inputs={"model_name": model("upscale_models")},
    outputs=("UPSCALE_MODEL",),
    category="model/loaders",
    title="Load Upscale Model",
    module="comfy_extras.nodes_upscale_model",
    combos="new",
)
def upscale_model_loader(run: Run, model_name: str) -> tuple[Weights]:
    """Load an upscaler."""
    return (load(run, "upscale_models", model_name),)
