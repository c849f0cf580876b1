"""The user's folder for what may be lost: hashes, and files on their way."""

from pathlib import Path
from typing import Final

import platformdirs

from backend.settings import Settings
from backend.validation.user_paths import user_path

APP: Final = "comfyform"


def cache_folder(settings: Settings) -> Path:
    """Return the folder for what may be lost: the hash cache and files on their way."""
    if settings.comfyform_state_dir is not None:
        return user_path(settings.comfyform_state_dir, "COMFYFORM_STATE_DIR")
    return platformdirs.user_cache_path(APP)
