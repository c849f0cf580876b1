"""ComfyUI's folders of models: their names, their aliases, and what counts as a model file. Pure.

Source: ComfyUI v0.29.0, folder_paths, recorded 2026-08.
"""

from pathlib import PurePosixPath
from typing import Final

from backend.comfyui.model_folders import ALIASES

CATEGORIES: Final = (
    "audio_encoders", "background_removal", "checkpoints", "classifiers", "clip_vision", "configs",
    "controlnet", "detection", "diffusers", "diffusion_models", "embeddings", "fonts",
    "frame_interpolation", "geometry_estimation", "gligen", "hypernetworks", "latent_upscale_models",
    "loras", "model_patches", "optical_flow", "photomaker", "style_models", "text_encoders",
    "upscale_models", "vae", "vae_approx",
)  # fmt: skip
"""Folders that ComfyUI itself reads. Node packs add their own (``sonic``), with any name."""

EXTENSIONS: Final = frozenset(
    {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft", ".gguf"}
)
"""Of model files, compared in lower case. ComfyUI itself reads no ``.gguf``; node packs read them from its
folders."""

PICKLED: Final = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pt2", ".pth"})
"""Endings of files that may hold Python's pickle, which can run code when it is loaded.
Source: docs.pytorch.org."""

# Folders of node packs have no filter; these files are parts of models there.
_COMPANIONS: Final = frozenset({".json", ".yaml", ".yml", ".txt", ".onnx", ".msgpack", ".model"})
_OTHER: Final = {
    "classifiers": frozenset({""}),  # folders of other programs: files without an extension
    "configs": frozenset({".yaml"}),
    "fonts": frozenset({".ttf", ".otf"}),
}


def may_hold_pickle(path: str) -> bool:
    """Tell by its ending whether a model file may hold pickled code."""
    return PurePosixPath(path).suffix.lower() in PICKLED


PICKLE_NOTE: Final = "it may hold pickled code, which runs when it is loaded"
"""What pages say of a file that `may_hold_pickle`, as the end of a sentence."""


def category(path: str) -> str:
    """Return the category of a path under the models root; a file at the root itself has ``""``."""
    folder, slash, _ = path.partition("/")
    return ALIASES.get(folder, folder) if slash else ""


def canonical(path: str) -> str:
    """Return the one name of a path under the models root, whichever alias its folder goes by."""
    folder, slash, rest = path.partition("/")
    return f"{ALIASES.get(folder, folder)}{slash}{rest}"


def model_extensions(kind: str) -> frozenset[str]:
    """Lower-case extensions that make a file of a category part of a model; ``""``: without an extension.

    ``diffusers`` holds folders, and node packs read what they like, so there
    companions count as well; at the models root itself (category ``""``) they do not.
    """
    extensions = _OTHER.get(kind, EXTENSIONS)
    own = kind in CATEGORIES and kind != "diffusers"
    return extensions if own or not kind else extensions | _COMPANIONS
