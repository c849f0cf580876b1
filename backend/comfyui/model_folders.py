"""Which folder of models an input of a node reads, and where on a volume such a file lies. Pure.

Source: object_info of ComfyUI v0.29.0 and its folder_paths, recorded 2026-08; the nodes of v0.33.0 and
the models that the templates of comfyui-workflow-templates-json 0.1.123 name; the SONIC pack, 8556234.
"""

from collections.abc import Mapping, Sequence
from typing import Final

MODELS: Final = "models"
"""The folder of all models, from a volume's root."""

HF_HOME: Final = "huggingface-cache"
"""The Hugging Face cache, from a volume's root. RunPod puts its cached models there, too."""
HF_HUB: Final = f"{HF_HOME}/hub"

ALIASES: Final[Mapping[str, str]] = {
    "clip": "text_encoders",
    "unet": "diffusion_models",
    "t2i_adapter": "controlnet",
}
"""Folder → the category that ComfyUI reads it as."""

_INPUTS: Final[Mapping[str, str]] = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "vae_name": "vae",
    "unet_name": "diffusion_models",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "audio_encoder_name": "audio_encoders",
    "photomaker_model_name": "photomaker",
    "sonic_unet": "sonic",
}
_NODES: Final[Mapping[tuple[str, str], str]] = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("ModelPatchLoader", "name"): "model_patches",
    ("LatentUpscaleModelLoader", "model_name"): "latent_upscale_models",
    ("FrameInterpolationModelLoader", "model_name"): "frame_interpolation",
    ("OpticalFlowLoader", "model_name"): "optical_flow",
    ("ConditioningLoader", "conditioning_name"): "embeddings",
    ("LTXAVTextEncoderLoader", "text_encoder"): "text_encoders",
    ("LoadBackgroundRemovalModel", "bg_removal_name"): "background_removal",
    ("LoadDA3Model", "model_name"): "geometry_estimation",
    ("LoadMediaPipeFaceLandmarker", "model_name"): "detection",
    ("LoadMoGeModel", "model_name"): "geometry_estimation",
    ("SAM3DBody_Loader", "model_file"): "detection",
    ("TrainLoraNode", "existing_lora"): "loras",
}


def category_of(class_type: str, name: str) -> str | None:
    """Return the category of models that an input of a node names a file of; None where it names none."""
    if special := _NODES.get((class_type, name)):
        return special
    return "text_encoders" if name.startswith("clip_name") else _INPUTS.get(name)


def places_of(category: str, file: str) -> list[str]:
    """Return every path from a volume's root at which ComfyUI finds a file of a category."""
    folders = [category, *(folder for folder, meant in ALIASES.items() if meant == category)]
    return [f"{MODELS}/{folder}/{file}" for folder in folders]


def how_to_get(paths: Sequence[str]) -> str:
    """Say what to do about model files that are not on a volume."""
    return (
        f"{' and '.join(paths)} {'is' if len(paths) == 1 else 'are'} not on this worker's volume: "
        "name the model in models-registry.yaml and run `inv models.sync`."
    )
