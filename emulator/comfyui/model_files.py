"""Which model files and inputs this ComfyUI can see: names to paths, and lists of names.

Source: facts of ComfyUI v0.29's folder_paths; `extra_model_paths.yaml` as its example file documents it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emulator.comfyui.settings import Folders, Settings

WEIGHTS = frozenset({".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"})
ALIASES = {"unet": "diffusion_models", "clip": "text_encoders"}
NEW_CATEGORIES = frozenset(
    {
        "latent_upscale_models",
        "datasets",
        "background_removal",
        "frame_interpolation",
        "geometry_estimation",
        "optical_flow",
        "detection",
    }
)
CATEGORIES: dict[str, tuple[str, ...]] = {
    "checkpoints": ("models/checkpoints", "output/checkpoints"),
    "configs": ("models/configs",),
    "loras": ("models/loras", "output/loras"),
    "vae": ("models/vae", "output/vae"),
    "text_encoders": ("models/text_encoders", "models/clip", "output/clip"),
    "diffusion_models": ("models/unet", "models/diffusion_models", "output/diffusion_models"),
    "clip_vision": ("models/clip_vision",),
    "style_models": ("models/style_models",),
    "embeddings": ("models/embeddings",),
    "diffusers": ("models/diffusers",),
    "vae_approx": ("models/vae_approx",),
    "controlnet": ("models/controlnet", "models/t2i_adapter"),
    "gligen": ("models/gligen",),
    "upscale_models": ("models/upscale_models",),
    "latent_upscale_models": ("models/latent_upscale_models",),
    "custom_nodes": ("base/custom_nodes",),
    "datasets": ("base/datasets",),
    "hypernetworks": ("models/hypernetworks",),
    "photomaker": ("models/photomaker",),
    "classifiers": ("models/classifiers",),
    "model_patches": ("models/model_patches",),
    "audio_encoders": ("models/audio_encoders",),
    "background_removal": ("models/background_removal",),
    "frame_interpolation": ("models/frame_interpolation",),
    "geometry_estimation": ("models/geometry_estimation",),
    "optical_flow": ("models/optical_flow",),
    "detection": ("models/detection",),
    "sonic": ("models/sonic",),
}
"""Category → its folders, in the recorded order; ``sonic`` is its pack's."""
EXTENSIONS: dict[str, frozenset[str] | None] = {
    "configs": frozenset({".yaml"}),
    "datasets": None,
    "sonic": None,
}
"""What counts as a model; None: every file. Categories that are not here take `WEIGHTS`."""

KINDS = {
    "image": frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}),
    "audio": frozenset({".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".mp4", ".webm", ".mkv"}),
}


@dataclass(slots=True)
class Category:
    """One kind of model: the folders that are searched in order, and what counts as one."""

    paths: list[Path]
    extensions: frozenset[str] | None


class Library:
    """The model folders and the input folder, read afresh on every question."""

    def __init__(self, settings: Settings) -> None:
        self.folders: Folders = settings.folders
        self.categories = _standard(settings)
        for file in settings.extra_model_paths:
            _add_extra_paths(self.categories, file)

    def names(self, category: str) -> list[str]:
        """List the names of a category, relative to its folders, sorted."""
        known = self.categories.get(category)
        if known is None:
            return []
        found = {name for path in known.paths for name in _files(path, known.extensions)}
        return sorted(found)

    def find(self, category: str, name: str) -> Path | None:
        """Return the file behind a name; the first folder that has it wins."""
        known = self.categories.get(category)
        if known is None:
            return None
        inside = os.path.normpath("/" + name).lstrip("/")
        return next((path / inside for path in known.paths if (path / inside).is_file()), None)

    def input_names(self, kind: str) -> list[str]:
        """List the files directly in the input folder that look like images or audio."""
        if not self.folders.input.is_dir():
            return []
        names = [entry.name for entry in os.scandir(self.folders.input) if entry.is_file()]
        return sorted(name for name in names if Path(name).suffix.lower() in KINDS[kind])

    def input_file(self, name: str) -> Path | None:
        """Return the file that `sub/x.png` or `x.png [output]` means, or None when there is none."""
        bare, kind = split_kind(name, "input")
        folder = self.folders.of_type(kind) or self.folders.input
        path = Path(os.path.normpath(folder / bare))
        return path if path.is_relative_to(folder) and path.is_file() else None


def split_kind(name: str, default: str) -> tuple[str, str]:
    """Split `x.png [output]` into the name and the folder type; `default` when it names none."""
    for kind in ("input", "output", "temp"):
        if name.endswith(f" [{kind}]"):
            return name.removesuffix(f" [{kind}]"), kind
    return name, default


def _standard(settings: Settings) -> dict[str, Category]:
    roots = {
        "models": settings.folders.models,
        "output": settings.folders.output,
        "base": settings.folders.base,
    }
    categories = {}
    for name, places in CATEGORIES.items():
        if name in NEW_CATEGORIES and not settings.modern:
            continue
        split = [place.split("/", 1) for place in places]
        paths = [roots[root] / rest for root, rest in split]
        categories[name] = Category(paths, EXTENSIONS.get(name, WEIGHTS))
    return categories


def _add_extra_paths(categories: dict[str, Category], file: Path) -> None:
    sections: dict[str, Any] = yaml.safe_load(file.read_text()) or {}
    for section in sections.values():
        if not section:
            continue
        entries = dict(section)
        base = entries.pop("base_path", None)
        root = file.parent if base is None else file.parent / os.path.expandvars(Path(base).expanduser())
        first = bool(entries.pop("is_default", False))
        for key, lines in entries.items():
            name = ALIASES.get(str(key), str(key))
            category = categories.setdefault(name, Category([], EXTENSIONS.get(name, WEIGHTS)))
            for line in str(lines).split("\n"):
                if not line.strip():
                    continue
                path = Path(os.path.normpath(root / line.strip()))
                if path in category.paths:
                    category.paths.remove(path)
                category.paths.insert(0 if first else len(category.paths), path)


def _files(folder: Path, extensions: frozenset[str] | None) -> Iterator[str]:
    for where, subfolders, names in os.walk(folder, followlinks=True):
        subfolders[:] = [name for name in subfolders if name != ".git"]
        for name in names:
            if extensions is None or Path(name).suffix.lower() in extensions:
                yield Path(where, name).relative_to(folder).as_posix()
