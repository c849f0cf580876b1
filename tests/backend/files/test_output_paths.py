"""Where results go: the suffix of a place against what the file holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.files.output_paths import suffix_warning


@pytest.mark.parametrize("place", ["a.jpg", "a.jpeg", "a.JPG", "a"])
@pytest.mark.parametrize("created", ["ComfyUI_1.jpg", "ComfyUI_1.jpeg"])
def test_both_suffixes_of_jpeg_promise_the_same(place: str, created: str):
    """`.jpg` and `.jpeg` are one format, in both directions, and no suffix promises nothing."""
    assert suffix_warning(Path(place), created) is None


@pytest.mark.parametrize(("place", "created", "word"), [("a.png", "x.jpg", "JPG"), ("a.jpg", "x.png", "PNG")])
def test_another_format_is_named(place: str, created: str, word: str):
    """The warning says what the file really holds."""
    assert f"holds {word}" in (suffix_warning(Path(place), created) or "")
