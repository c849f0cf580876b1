"""What kind of media a file holds, by its suffix: the same on every system.

Python's own ``mimetypes`` asks the machine, and a slim container has never
heard of FLAC.
"""

import mimetypes
from pathlib import Path
from typing import Final

_KNOWN: Final = mimetypes.MimeTypes(filenames=())
for _type, _suffix in (
    ("audio/flac", ".flac"),
    ("audio/mp4", ".m4a"),
    ("audio/ogg", ".ogg"),
    ("image/webp", ".webp"),
    ("video/x-matroska", ".mkv"),
):
    _KNOWN.add_type(_type, _suffix)


def mime_type(path: Path) -> str:
    """Give a file's MIME type; ``application/octet-stream`` for what is not known."""
    return _KNOWN.guess_type(path.name)[0] or "application/octet-stream"
