"""How large a picture is, read from the start of its file: PNG, JPEG and WebP. Pure, no decoding."""

import struct
from typing import Final

HEAD_BYTES: Final = 256 * 1024
"""How much of a file is enough: a JPEG has its size behind its metadata and preview."""


def image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels as shown; None where the format is another, or the start is too short.

    A phone stores an upright picture lying on its side, with an orientation in the JPEG's Exif data.

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
    at, upright = 2, False
    while at < len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, at + 5)
            return (height, width) if upright else (width, height)
        if marker == 0xE1:
            upright = _is_on_its_side(head[at + 4 : at + 2 + struct.unpack_from(">H", head, at + 2)[0]])
        # A marker may be padded by more 0xFF; restart markers and TEM have no length.
        padding = marker == 0xFF
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD7
        at += 1 if padding else 2 if alone else 2 + struct.unpack_from(">H", head, at + 2)[0]
    return None


def _is_on_its_side(segment: bytes) -> bool:
    """Tell whether an Exif segment says to turn the picture by 90 degrees.

    Source: CIPA DC-008 (Exif 2.32), 4.6.4: tag 0x0112, values 5 to 8.
    """
    if not segment.startswith(b"Exif\0\0"):
        return False
    tiff = segment[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return False
    try:
        directory = struct.unpack_from(f"{order}I", tiff, 4)[0]
        for number in range(struct.unpack_from(f"{order}H", tiff, directory)[0]):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * number)
            if (tag, kind) == (0x0112, 3):
                return value in range(5, 9)
    except struct.error:
        pass
    return False


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
