"""The nodes of smthemex/ComfyUI_Sonic: a portrait that says what a sound says.

They look for their files in the models folder itself, as the pack does, whatever `extra_model_paths.yaml`
says.
Source: the pack's definitions at 8556234, and reports of how it fails.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.comfyui.graph.run import Failure, Run
from emulator.comfyui.graph.values import Picture, Sound, Weights
from emulator.comfyui.media import audio_synthesis, image_rendering
from emulator.comfyui.nodes.declarations import boolean, choice, integer, link, model, node, number
from emulator.comfyui.nodes.loaders import out_of_memory

if TYPE_CHECKING:
    from PIL.Image import Image

MODULE = "custom_nodes.ComfyUI_Sonic"
FIXED = ("audio2token.pth", "audio2bucket.pth", "yoloface_v5m.pt")
WHISPER = ("config.json", "model.safetensors", "preprocessor_config.json")
BYTES_PER_PIXEL = 16_000
"""What a frame's pixel takes on the GPU, about: 512² fits a 24 GB card, 2048² does not."""
FLAT = 8
"""Less contrast than this, of 255, and there is no face."""


@dataclass(frozen=True, slots=True)
class Animator:
    """A loaded SONIC model."""

    weights: Weights
    unet: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A face, scaled, and what it will say."""

    face: Image
    sound: Sound
    seconds: float


@node(
    "SONICTLoader",
    inputs={
        "model": link("MODEL"),
        "sonic_unet": model("sonic", "none"),
        "ip_audio_scale": number(1.0, 0.5, 2.0, 0.1),
        "use_interframe": boolean(default=True),
        "dtype": choice("fp16", "fp32", "bf16"),
    },
    outputs=("MODEL_SONIC", "DTYPE"),
    names=("model", "weight_dtype"),
    category="SONIC",
    module=MODULE,
)
def sonic_loader(
    run: Run, model: Weights, sonic_unet: str, use_interframe: bool, dtype: str, **_: float
) -> tuple[Animator, str]:
    """Load SONIC; its fixed files must be in models/sonic."""
    folder = run.folders.models / "sonic"
    if sonic_unet == "none" or run.library.find("sonic", sonic_unet) is None:
        raise Failure("Exception", "Please download the model first")
    if any(not (folder / name).is_file() for name in FIXED):
        raise Failure("Exception", "Please download the model first")
    whisper = folder / "whisper-tiny"
    if any(not (whisper / name).is_file() for name in WHISPER):
        message = (
            f"Error no file named model.safetensors, or pytorch_model.bin, found in directory {whisper}."
        )
        raise Failure("OSError", message)
    rife = folder / "RIFE" / "flownet.pkl"
    if use_interframe and not rife.is_file():
        raise Failure("FileNotFoundError", f"[Errno 2] No such file or directory: '{rife}'")
    return Animator(model, sonic_unet), dtype


@node(
    "SONIC_PreData",
    inputs={
        "clip_vision": link("CLIP_VISION"),
        "vae": link("VAE"),
        "audio": link("AUDIO"),
        "image": link("IMAGE"),
        "weight_dtype": link("DTYPE"),
        "min_resolution": integer(512, 128, 2048, 64, display="number"),
        "duration": number(10.0, 1.0, 1e11, 0.1),
        "expand_ratio": number(0.5, 0.1, 1.0, 0.1),
    },
    outputs=("SONIC_PREDATA",),
    names=("data_dict",),
    category="SONIC",
    module=MODULE,
)
def sonic_predata(
    run: Run, audio: Sound, image: Picture, min_resolution: int, duration: float, **_: object
) -> tuple[Prepared]:
    """Find the face, scale the picture, and cut the sound."""
    # The pack leaves this file behind with every run; whoever runs it must tidy up.
    left_behind = run.folders.input / f"audio_{random.randrange(10**6):06}_temp.wav"
    left_behind.write_bytes(audio_synthesis.wav(audio))
    picture = image.draw(0).convert("RGB")
    if image_rendering.contrast(picture) < FLAT:
        raise Failure("AttributeError", "'NoneType' object has no attribute 'items'")
    scale = min_resolution / min(picture.size)
    width, height = (max(64, round(side * scale / 64) * 64) for side in picture.size)
    seconds = min(duration, audio.seconds)
    return (Prepared(picture.resize((width, height)), audio_synthesis.cut(audio, 0.0, seconds), seconds),)


@node(
    "SONICSampler",
    inputs={
        "model": link("MODEL_SONIC"),
        "data_dict": link("SONIC_PREDATA"),
        "seed": integer(0, 0, 2**31 - 1),
        "inference_steps": integer(25, 1, 1024, 1, display="number"),
        "dynamic_scale": number(1.0, 0.5, 2.0, 0.1),
        "fps": number(25.0, 5.0, 120.0, 0.5),
    },
    outputs=("IMAGE", "FLOAT"),
    names=("image", "fps"),
    category="SONIC",
    module=MODULE,
)
def sonic_sampler(
    run: Run,
    model: Animator,
    data_dict: Prepared,
    seed: int,
    inference_steps: int,
    dynamic_scale: float,
    fps: float,
) -> tuple[Picture, float]:
    """Move the mouth with the loudness of the sound."""
    face = data_dict.face
    required = face.width * face.height * BYTES_PER_PIXEL / 2**30
    if required > run.knobs.vram_gb:
        raise out_of_memory(required, run.knobs.vram_gb)
    count = max(1, math.floor(data_dict.seconds * fps))
    openings = audio_synthesis.loudness(data_dict.sound, count, fps)

    def draw(index: int) -> Image:
        return image_rendering.with_mouth(face, min(1.0, openings[index] * dynamic_scale))

    run.steps(inference_steps, lambda: image_rendering.preview(draw(0)))
    return Picture(face.width, face.height, count, draw), fps
