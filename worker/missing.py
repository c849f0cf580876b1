"""Say in a worker's words which model file a job lacks, where it belongs and how it gets there. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from backend.errors import ComfyformError, InvalidArgument
from ops.layout import MODELS

# Input of a loader → the folder of models that it reads.
# Source: nodes of ComfyUI v0.29 and of the packs in the image.
FOLDERS: Final[Mapping[str, str]] = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "vae_name": "vae",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "audio_encoder_name": "audio_encoders",
    "model_name": "upscale_models",
    "sonic_unet": "sonic",
}
_REFUSED: Final = re.compile(r"(\w+) '([^']+\.\w+)' is not available")


def explained(error: ComfyformError) -> ComfyformError:
    """Give an error with a remedy that fits a worker, where it is about model files that are not there."""
    if not isinstance(error, InvalidArgument):
        return error
    paths = missing_models(error.message)
    if paths:
        error.hint = (
            f"{' and '.join(paths)} {'is' if len(paths) == 1 else 'are'} not on this worker's volume: "
            "name the model in models-registry.yaml and run `inv models.sync`."
        )
    return error


def missing_models(message: str) -> list[str]:
    """Give the places on the volume of the model files that ComfyUI's refusal says are missing.

    Args:
        message: as ``backend.comfyui_answers.refusal`` words it.
    """
    found = [
        f"{MODELS}/{FOLDERS[name]}/{file}" for name, file in _REFUSED.findall(message) if name in FOLDERS
    ]
    return list(dict.fromkeys(found))
