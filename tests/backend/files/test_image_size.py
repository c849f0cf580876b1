"""How large a picture is, told from its first bytes alone."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from backend.files.image_size import image_size


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


@pytest.mark.parametrize("orientation", range(10))
def test_a_phones_picture_has_the_size_that_is_shown(orientation: int):
    """As Pillow shows it: orientations 5 to 8 turn it on its side."""
    exif = Image.Exif()
    exif[0x010F] = "a phone"
    exif[0x0112] = orientation
    picture = encoded("JPEG", exif=exif)

    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(picture)))

    assert image_size(picture) == shown.size == ((45, 123) if 5 <= orientation <= 8 else (123, 45))


@given(st.binary(max_size=200))
def test_damaged_exif_is_no_error(data: bytes):
    """The size is read all the same."""
    segment = b"Exif\0\0" + data
    picture = PICTURES["jpeg"]
    content = picture[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + picture[2:]

    assert image_size(content) in {(123, 45), (45, 123)}
