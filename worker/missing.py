"""Say in a worker's words which model file a job lacks, where it belongs and how it gets there. Pure."""

import json
from collections.abc import Mapping
from typing import Final

from backend.errors import ComfyformError, JobFailed
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


def explained(error: ComfyformError) -> ComfyformError:
    """Give an error with a remedy that fits a worker, where it is about model files that are not there."""
    if isinstance(error, JobFailed) and (error.output or {}).get("missing_models"):
        paths = missing_models(error.worker_error)
        if paths:
            error.output = {"missing_models": paths}
            error.hint = (
                f"{' and '.join(paths)} {'is' if len(paths) == 1 else 'are'} not on this worker's volume: "
                "name the model in models-registry.yaml and run `inv models.sync`."
            )
    return error


def missing_models(refusal: str) -> list[str]:
    """Give the places on the volume of the model files that ComfyUI's refusal says are missing.

    Args:
        refusal: the body of ``POST /prompt`` as it came, JSON.
    """
    problems = [
        problem.get("extra_info") or {}
        for node in (json.loads(refusal).get("node_errors") or {}).values()
        for problem in node.get("errors") or ()
        if problem.get("type") == "value_not_in_list"
    ]
    found = [
        f"{MODELS}/{FOLDERS[extra['input_name']]}/{extra['received_value']}"
        for extra in problems
        if extra.get("input_name") in FOLDERS
    ]
    return list(dict.fromkeys(found))
