"""The other places on a volume where pods keep models, and where each file of them belongs. Pure.

A pod mounts the volume at ``/workspace``. Its ComfyUI, its download scripts
and people put models where no endpoint of this tool looks.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final

from backend.comfyui.model_folders import ALIASES
from backend.contract import FileRecord, WantedFile
from ops.models.categories import category, model_extensions
from ops.models.volume_layout import MODELS, canonical_path

COMFYUI_MODELS: Final = ("ComfyUI/models", "runpod-slim/ComfyUI/models", "madapps/ComfyUI/models")
"""Models folders of the ComfyUI installations that RunPod's templates put on a volume."""
_AT_THE_ROOT: Final = (
    "checkpoints", "clip_vision", "controlnet", "diffusion_models", "embeddings", "loras", "text_encoders",
    "upscale_models", "vae", *ALIASES,
)  # fmt: skip
OTHER_PLACES: Final = (*COMFYUI_MODELS, *_AT_THE_ROOT)
"""Folders from the volume's root."""


def belongs_at(path: str) -> str | None:
    """Return where a file of another place belongs; None where it is not a model file of such a place.

    Args:
        path: from the volume root, for example ``ComfyUI/models/loras/x.safetensors``.
    """
    for place in OTHER_PLACES:
        if path.startswith(f"{place}/"):
            below = path if place in _AT_THE_ROOT else path.removeprefix(f"{place}/")
            suffix = PurePosixPath(below).suffix.lower()
            kind = category(below)
            return f"{MODELS}/{below}" if kind and suffix in model_extensions(kind) else None
    return None


def candidates(wanted: WantedFile, others: Iterable[FileRecord]) -> list[FileRecord]:
    """Return the files that may hold a wanted file's bytes, the most likely one first.

    The bytes decide, so a file of the same size is a candidate under any name.

    Args:
        wanted: with all that is known of its bytes. Without a sha256 nothing is a candidate.
        others: files in other places.
    """
    place, size = canonical_path(wanted["path"]), wanted.get("size_bytes")
    name = place.rpartition("/")[2]

    def likelihood(other: FileRecord) -> int:
        belongs = _place_of(other["path"])
        if other["path"] == wanted.get("lies_at"):
            return 0
        if belongs == place:
            return 1
        if belongs.rpartition("/")[2] == name:
            return 2
        return 3 if size is not None else 4

    if wanted.get("sha256") is None:
        return []
    possible = [other for other in others if size in (None, other["size_bytes"]) and likelihood(other) < 4]
    return sorted(possible, key=likelihood)


def _place_of(path: str) -> str:
    """Return the one name of the place where a file of another place belongs."""
    return canonical_path(belongs_at(path) or path)


class Moves:
    """Files of other places that wanted files can be moved from; each is taken once.

    Args:
        elsewhere: the files, by path.
    """

    def __init__(self, elsewhere: Mapping[str, FileRecord]) -> None:
        self._records = elsewhere
        self._left = {path: _place_of(path) for path in elsewhere}

    def take(self, key: str, size_bytes: int | None) -> FileRecord | None:
        """Return the file that belongs at a place, else one of its name and size; none of another size.

        Args:
            key: of the wanted file.
            size_bytes: of the wanted file, where it is known.
        """
        name = key.rpartition("/")[2]
        by_place = [path for path, place in self._left.items() if place == key]
        by_name = [path for path, place in self._left.items() if place.endswith(f"/{name}") and size_bytes]
        for path in (*by_place, *by_name):
            if size_bytes in (None, self._records[path]["size_bytes"]):
                del self._left[path]
                return self._records[path]
        return None

    @property
    def rest(self) -> tuple[str, ...]:
        """The files that nothing took."""
        return tuple(sorted(self._left))
