"""How large a picture is, read from the start of its file: PNG, JPEG and WebP. Pure, no decoding."""

import struct
from typing import Final

HEAD_BYTES: Final = 256 * 1024
"""How much of a file is enough: a JPEG has its size behind its metadata and preview."""


def image_size(head: bytes) -> tuple[int, int] | None:
    """Give width and height in pixels; None where the format is another, or the start is too short.

    Source: PNG specification 11.2.2; ITU-T T.81 B.2.2; WebP container specification.
    """
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return struct.unpack_from(">II", head, 16)
        if head.startswith(b"\xff\xd8"):
            return _jpeg(head)
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _webp(head)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame header: SOF0 to SOF15, but for DHT, JPG and DAC in between."""
    at = 2
    while at < len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        # A marker may be padded by more 0xFF; restart markers and TEM have no length.
        padding = marker == 0xFF
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD7
        at += 1 if padding else 2 if alone else 2 + struct.unpack_from(">H", head, at + 2)[0]
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        return (width + 1, height + 1) if len(head) >= 30 else None
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", head, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
