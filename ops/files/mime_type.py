"""What kind of media a file holds, by its suffix: the same on every system.

Python's own table asks the machine, and a slim container has never heard of
FLAC.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mimetypes import MimeTypes

_ADDED: Final = {
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mkv": "video/x-matroska",
    ".ogg": "audio/ogg",
    ".webp": "image/webp",
}


def mime_type(path: Path) -> str:
    """Return a file's MIME type; ``application/octet-stream`` for what is not known."""
    return _known().guess_type(path.name)[0] or "application/octet-stream"


@functools.cache
def _known() -> "MimeTypes":
    """The standard table without the machine's files, and what it lacks. It takes some milliseconds."""
    import mimetypes

    table = mimetypes.MimeTypes(filenames=())
    for suffix, kind in _ADDED.items():
        table.add_type(kind, suffix)
    return table
