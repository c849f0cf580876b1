"""The ``extra_model_paths.yaml`` that shows ComfyUI the volume's models. Pure: gives text.

Source: ComfyUI v0.29 folder_paths (facts: comfyui.md 6). A folder that does not exist is no error there,
and one whose files arrive later is seen without a restart, so every known category is named from the start.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from ops.layout import MODELS

CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = {
    "checkpoints": ("checkpoints",),
    "configs": ("configs",),
    "loras": ("loras",),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("diffusion_models", "unet"),
    "clip_vision": ("clip_vision",),
    "style_models": ("style_models",),
    "embeddings": ("embeddings",),
    "diffusers": ("diffusers",),
    "vae_approx": ("vae_approx",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "gligen": ("gligen",),
    "upscale_models": ("upscale_models",),
    "latent_upscale_models": ("latent_upscale_models",),
    "hypernetworks": ("hypernetworks",),
    "photomaker": ("photomaker",),
    "classifiers": ("classifiers",),
    "model_patches": ("model_patches",),
    "audio_encoders": ("audio_encoders",),
    "background_removal": ("background_removal",),
    "frame_interpolation": ("frame_interpolation",),
    "geometry_estimation": ("geometry_estimation",),
    "optical_flow": ("optical_flow",),
    "detection": ("detection",),
    # Of node packs.
    "animatediff_models": ("animatediff_models",),
    "ipadapter": ("ipadapter",),
    "sonic": ("sonic",),
}
"""Category → its folders under the models root; the second ones are older names of the same."""


def render(volume: str, folders: Iterable[str] = ()) -> str:
    """Write the file.

    Args:
        volume: absolute path of the volume.
        folders: names of folders that are under its models root now; those that no category knows
            become categories of their own name, because a node pack may ask for them.
    """
    known = {folder for names in CATEGORIES.values() for folder in names}
    categories = dict(CATEGORIES) | {name: (name,) for name in sorted(set(folders) - known)}
    # JSON's quoting is YAML's too: a volume path or a folder may hold any character.
    lines = ["comfyform:", f"  base_path: {json.dumps(volume)}"]
    for category, names in categories.items():
        paths = "\n".join(f"{MODELS}/{name}" for name in names)
        lines.append(f"  {json.dumps(category)}: {json.dumps(paths)}")
    return "\n".join(lines) + "\n"
