"""What kind of media a file holds, by its name. Pure."""

from collections.abc import Mapping
from typing import Final

from backend.verbs.result import Kind

_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "gif", "bmp", "tiff", "avif", "svg"), "image"),
    **dict.fromkeys(("mp4", "webm", "mkv", "mov", "avi", "m4v"), "video"),
    **dict.fromkeys(("flac", "wav", "mp3", "opus", "ogg", "m4a", "aac"), "audio"),
    **dict.fromkeys(("txt", "json", "csv", "md"), "text"),
}


def kind_of(filename: str) -> Kind:
    """Tell what a file is by its suffix."""
    return _KINDS.get(filename.rpartition(".")[2].lower(), "file")
