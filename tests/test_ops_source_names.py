"""Sources as a registry writes them: four forms, and what is answered to anything else."""

from __future__ import annotations

import pytest

from backend.errors import ConfigError
from ops.source_names import CivitaiSource, HfSource, LocalSource, UrlSource, parse

COMMIT = "84e5a410d9cead4de2f847e7c9369a6440bdfaca"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf:a/b:c/d.bin", HfSource("a/b", None, "c/d.bin")),
        (f"hf:a/b@{COMMIT}:c", HfSource("a/b", COMMIT, "c")),
        ("hf:a/b@refs/pr/1:c:d", None),
        ("hf:a.b-c/d_e@v1.0:c d.bin", HfSource("a.b-c/d_e", "v1.0", "c d.bin")),
        ("url:https://x/y?z=1", UrlSource("https://x/y?z=1")),
        ("civitai:128713", CivitaiSource(128713)),
        ("local:loras/mine.safetensors", LocalSource("loras/mine.safetensors")),
        ("hf:a/b", None),
        ("hf:a/b:../c", None),
        ("url:file:///etc/passwd", None),
        ("civitai:abc", None),
        ("local:/etc/passwd", None),
        ("url:https://[::1/a", None),
        ("url:https://x/\x1b", None),
        ("", None),
    ],
)
def test_sources(text: str, source: object):
    """The four forms are read and written back; anything else is refused."""
    if source is None:
        with pytest.raises(ConfigError):
            parse(text)
        return

    assert parse(text) == source
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://huggingface.co/a/b/resolve/main/c/d%20e.bin?download=true", "Write hf:a/b:c/d e.bin."),
        ("https://huggingface.co/a/b/blob/v1/c.bin", "Write hf:a/b@v1:c.bin."),
        ("https://civitai.com/models/4384?modelVersionId=128713", "Write civitai:128713."),
        ("https://civitai.com/api/download/models/128713?type=Model", "Write civitai:128713."),
        ("https://example.org/c.bin", "Write url:https://example.org/c.bin."),
        ("https://me:hunter2@example.org/c.bin", "'https://…@example.org/c.bin' is not a source."),
        (
            "url:https://me:hunter2@example.org/c.bin",
            "The address of example.org in a source holds a password",
        ),
    ],
)
def test_an_address_says_what_is_meant(text: str, said: str):
    """What is copied from a browser is answered with the source to write; a password is not repeated."""
    with pytest.raises(ConfigError) as refused:
        parse(text)

    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)
