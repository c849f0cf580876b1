"""The other places on a volume where pods keep models, and where each file of them belongs. Pure.

A pod mounts the volume at ``/workspace``. Its ComfyUI, its download scripts
and people put models where no endpoint of this tool looks.
"""

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Final

from backend.comfyui.model_folders import ALIASES
from backend.contract import FileRecord
from ops.models.categories import category, model_extensions
from ops.models.volume_layout import MODELS

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


class Moves:
    """Files of other places that wanted files can be moved from; each is taken once.

    Args:
        elsewhere: the files, by path.
        key: gives a path's one name, over all aliases of its folder.
    """

    def __init__(self, elsewhere: Mapping[str, FileRecord], key: Callable[[str], str]) -> None:
        self._records = elsewhere
        self._left = {path: key(belongs_at(path) or path) for path in elsewhere}

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
