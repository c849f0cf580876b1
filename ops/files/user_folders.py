"""The user's folder for what may be lost: hashes, and files on their way."""

from pathlib import Path
from typing import Final

import platformdirs

from backend.settings import Settings

APP: Final = "comfyform"


def cache_folder(settings: Settings) -> Path:
    """Give the folder for what may be lost: the hash cache and files on their way."""
    if settings.comfyform_state_dir is not None:
        return Path(settings.comfyform_state_dir).expanduser()
    return platformdirs.user_cache_path(APP)
