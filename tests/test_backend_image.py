"""How large a picture is, told from its first bytes alone."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from backend.image import image_size


def encoded(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (123, 45), (200, 30, 90)).save(out, kind, **options)
    return out.getvalue()


PICTURES = {
    "png": encoded("PNG"),
    "jpeg": encoded("JPEG"),
    "progressive jpeg with metadata": encoded("JPEG", progressive=True, exif=b"Exif\0\0" + bytes(60_000)),
    "webp": encoded("WEBP"),
    "lossless webp": encoded("WEBP", lossless=True),
    "webp with metadata": encoded("WEBP", exif=b"Exif\0\0" + bytes(20)),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_every_format_that_services_take_is_read(picture):
    """As Pillow wrote it: plain, progressive, lossless, and with metadata before the size."""
    assert image_size(picture) == (123, 45)


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_a_start_that_is_too_short_is_no_size(picture):
    """Cut anywhere, the answer is the size or None, never a wrong one or an error."""
    assert {image_size(picture[:length]) for length in range(40)} <= {(123, 45), None}


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"\xff\xd8\x00\x00\x00", b"RIFF....WEBPVP8?" + bytes(40)]
)
def test_what_is_something_else_is_no_size(content):
    """Other formats and damaged files."""
    assert image_size(content) is None
