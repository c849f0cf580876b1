"""Sources as a registry writes them: four forms, and what is answered to anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import ConfigError
from ops.models.source_addresses import read_source
from ops.models.source_url import CivitaiSource, HfSource, LocalSource, UrlSource, parse
from ops.registry.load import parse_registry

COMMIT = "84e5a410d9cead4de2f847e7c9369a6440bdfaca"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf:a/b:c/d.bin", HfSource("a/b", None, "c/d.bin")),
        (f"hf:a/b@{COMMIT}:c", HfSource("a/b", COMMIT, "c")),
        ("hf:a/b@refs/pr/1:c:d", HfSource("a/b", "refs/pr/1", "c:d")),
        ("hf:a.b-c/d_e@v1.0:c d.bin", HfSource("a.b-c/d_e", "v1.0", "c d.bin")),
        ("url:https://x/y?z=1", UrlSource("https://x/y?z=1")),
        ("civitai:128713", CivitaiSource(128713)),
        ("local:loras/mine.safetensors", LocalSource("loras/mine.safetensors")),
        ("hf:gpt2:model.safetensors", HfSource("gpt2", None, "model.safetensors")),
        (
            "hf:org/name:墨心\uff1a水墨?.safetensors",
            HfSource("org/name", None, "墨心\uff1a水墨?.safetensors"),
        ),
        ("civitai:3155593/2", CivitaiSource(3155593, 2)),
        (
            "civitai:5?format=SafeTensor&fp=fp8",
            CivitaiSource(5, None, (("format", "SafeTensor"), ("fp", "fp8"))),
        ),
        ("civitai:5?token=x", None),
        ("civitai:5?", None),
        ("civitai:5/", None),
        ("hf:../..:x", None),
        ("hf:a/b@..:x", None),
        ("hf:a/b@main/../../api:x", None),
        ("hf:a/b@main/./x:x", None),
        ("hf:..:x", None),
        ("hf:a/b:c\\..\\..\\d", None),
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


HF_MEANT = {
    "https://huggingface.co/a/b/resolve/main/c/d%20e.bin?download=true": "hf:a/b:c/d e.bin",
    "https://huggingface.co/a/b/blob/v1/c.bin": "hf:a/b@v1:c.bin",
    "https://huggingface.co/a/b/blob/refs%2Fpr%2F1/c.bin": "hf:a/b@refs/pr/1:c.bin",
    "https://huggingface.co/gpt2/blob/main/c.bin": "hf:gpt2:c.bin",
    "url:https://huggingface.co/a/b/blob/main/c.bin": "hf:a/b:c.bin",
}
CIVITAI_MEANT = {
    "https://civitai.com/models/4384?modelVersionId=128713": "civitai:128713",
    "https://civitai.red/models/4384/name?modelVersionId=128713": "civitai:128713",
    "https://civitai.com/api/download/models/128713": "civitai:128713",
    "https://civitai.com/api/download/models/128713?fileId=2": "civitai:128713/2",
    "https://civitai.com/api/download/models/128713?type=Model&format=SafeTensor&fp=fp8": (
        "civitai:128713?type=Model&format=SafeTensor&fp=fp8"
    ),
    "urn:air:sdxl:lora:civitai:827184@2514310": "civitai:2514310",
}
OTHER_MEANT = {
    "https://example.org/c.bin": "url:https://example.org/c.bin",
    "https://github.com/o/r/blob/v1/a/b.pth": "url:https://github.com/o/r/raw/v1/a/b.pth",
    "https://drive.google.com/file/d/1oe8VTPUy0-MHH/view?usp=sharing": (
        "url:https://drive.usercontent.google.com/download?id=1oe8VTPUy0-MHH&export=download&confirm=t"
    ),
    "https://www.dropbox.com/s/abc/x.safetensors?dl=0": "url:https://www.dropbox.com/s/abc/x.safetensors?dl=1",
    "hf:a/b:c": "hf:a/b:c",
}
MEANT = HF_MEANT | CIVITAI_MEANT | OTHER_MEANT


@pytest.mark.parametrize(("text", "source"), MEANT.items(), ids=MEANT.keys())
def test_an_address_is_taken_as_a_browser_shows_it(text: str, source: str):
    """It becomes the source that is meant, with all that it chooses; and that source can be read."""
    assert str(read_source(text)) == source
    assert str(parse(source)) == source


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("https://civitai.com/models/101055", "is a page of CivitAI that shows several versions"),
        ("https://huggingface.co/org/name", "Name the file: hf:org/name:FILE"),
        ("https://huggingface.co/org/name/tree/main/sub", "Name the file: hf:org/name:FILE"),
        ("https://huggingface.co/datasets/o/n/resolve/main/x.bin", "is a page of Hugging Face"),
        ("urn:air:sdxl:lora:civitai:827184", "an AIR name needs the version after @"),
        ("ftp://example.org/x", "is not a source"),
    ],
)
def test_a_page_is_not_a_file(text: str, sentence: str):
    """No hint leads to a source that would fetch a web page."""
    with pytest.raises(ConfigError) as refused:
        read_source(text)

    assert sentence in str(refused.value)


def test_a_registry_says_which_source_an_address_means():
    """Its problem names what to write instead."""
    text = (
        "required:\n  x:\n    files:\n"
        "      - {path: loras/x.bin, source: 'https://huggingface.co/a/b/blob/v1/c.bin'}\n"
    )

    _, problems = parse_registry(text, Path("r.yaml"), {})

    assert "Write hf:a/b@v1:c.bin" in problems[0]


SECRETS = (
    "token", "api_key", "apikey", "API-KEY", "access_token", "X-Amz-Signature", "X-Amz-Security-Token",
    "X-Goog-Signature", "sig", "Signature", "password", "client_secret", "auth", "jwt",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_query_is_refused(name: str):
    """The registry, its lock and the records would show it; the error does not repeat it."""
    with pytest.raises(ConfigError) as refused:
        parse(f"url:https://example.org/x.bin?a=1&{name}=c0ffee_SECRET")

    assert f"holds a secret in {name}" in str(refused.value)
    assert "c0ffee_SECRET" not in str(refused.value)


@pytest.mark.parametrize(
    "query", ["", "?download=true", "?id=5&export=download&confirm=t", "?token=", "?v=2"]
)
def test_a_query_without_a_secret_is_fine(query: str):
    """Many addresses need one."""
    assert parse(f"url:https://example.org/x.bin{query}") == UrlSource(f"https://example.org/x.bin{query}")


@pytest.mark.parametrize("prefix", ["", "url:"])
def test_a_password_is_refused_and_not_repeated(prefix: str):
    """In every form of an address."""
    with pytest.raises(ConfigError) as refused:
        parse(f"{prefix}https://me:hunter2@example.org/c.bin")

    assert "hunter2" not in str(refused.value)
