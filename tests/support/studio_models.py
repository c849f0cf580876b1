"""The model files that the five verbs need, tiny, laid out as on a volume."""

from __future__ import annotations

import contextlib
import struct
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.comfyui_program import ComfyUI, running_comfyui, safetensors

REVISION = "0123456789abcdef0123456789abcdef01234567"
XL = "stable-diffusion-xl-v1-base"
CHECKPOINT = "models/checkpoints/sd_xl_base_1.0.safetensors"
REGISTRY = """\
required:
  portrait-checkpoint:
    used_by: [portrait]
    license: openrail++
    files:
      - {path: checkpoints/sd_xl_base_1.0.safetensors, source: "hf:stabilityai/sdxl:xl.safetensors"}
  sonic:
    used_by: [lipsync]
    license: CC-BY-NC-SA-4.0
    files:
      - {path: sonic/unet.pth, source: "hf:LeonJoe13/Sonic:Sonic/unet.pth"}
"""
"""Two models that are wanted; the first is `CHECKPOINT` on a volume."""


@contextlib.contextmanager
def complete_comfyui(folder: Path) -> Iterator[ComfyUI]:
    """Run a ComfyUI that has all of them."""
    fill_models(folder / "models")
    fill_hub(folder / "huggingface" / "hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "huggingface"))
        with running_comfyui(folder) as comfyui:
            yield comfyui


def fill_models(models: Path) -> None:
    """Put checkpoints, a LoRA and SONIC's files under a models folder."""
    files = {
        "checkpoints/sd_xl_base_1.0.safetensors": safetensors(XL),
        "checkpoints/dreamshaper_8.safetensors": safetensors("stable-diffusion-v1"),
        "checkpoints/flux1-schnell-fp8.safetensors": safetensors("flux-1-schnell"),
        "checkpoints/video/svd_xt_1_1.safetensors": safetensors("stable-video-diffusion-img2vid-v1"),
        "loras/film.safetensors": safetensors(XL),
    }
    sonic = ("unet.pth", "audio2token.pth", "audio2bucket.pth", "yoloface_v5m.pt", "RIFE/flownet.pkl")
    whisper = ("config.json", "model.safetensors", "preprocessor_config.json")
    files |= {f"sonic/{name}": b"weights" for name in (*sonic, *(f"whisper-tiny/{name}" for name in whisper))}
    for name, content in files.items():
        path = models / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def fill_hub(hub: Path) -> None:
    """Put F5-TTS and its vocoder into a Hugging Face cache."""
    repositories = {
        "SWivid/F5-TTS": ("F5TTS_v1_Base/model_1250000.safetensors", "F5TTS_v1_Base/vocab.txt"),
        "charactr/vocos-mel-24khz": ("config.yaml", "pytorch_model.bin"),
    }
    for repository, names in repositories.items():
        folder = hub / f"models--{repository.replace('/', '--')}"
        for name in names:
            path = folder / "snapshots" / REVISION / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights")
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(REVISION)


def write_wav(path: Path, seconds: float = 2.0, rate: int = 16_000) -> Path:
    """Write a tone, with what it says beside it."""
    wave_form = struct.pack("<80h", *(number * 50 - 2000 for number in range(80)))
    frames = (wave_form * (int(seconds * rate) // 80 + 1))[: 2 * int(seconds * rate)]
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(frames)
    path.with_suffix(".txt").write_text("This is my voice.")
    return path
