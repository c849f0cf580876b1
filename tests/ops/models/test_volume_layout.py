"""Names from outside: none leaves its root, whatever it is made of."""

from __future__ import annotations

import ntpath
import posixpath
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import InvalidArgument
from backend.validation.checks import check_path, path_problem
from ops.models import volume_layout
from ops.models.volume_layout import check_wanted_path

NASTY = [
    "..", ".", "", "...", "a", "models", "CON", "nul.txt", "com1", "LPT9.bin", "aux .x", "COM¹", "~", "~root",
    "C:", "C:x", "\\\\server", "a\\b", "..\\..", "%2e%2e", "．．", "‥", "/", "∕", "／", "⁄", "＼", "a\x00b",
    "a\nb", "a\u202eb", "\u200b", "é", "e\u0301", "x" * 255, "x" * 300, "a.", "a ", " ", "-rf", "?", "*",
    "\ud800", ".comfyform", "x:stream", "ﬀ", "\ufeff", "\r", "con.safetensors", "𝐜𝐨𝐧", "x.safetensors", "図",
]  # fmt: skip
STARTS = ["", "", "", "/", "//", "\\", "C:\\", "\\\\?\\", "./", "models/"]
SEPARATORS = ["/", "/", "/", "\\", "//"]
LETTERS = "./\\:~ \x00aB¹．／"


def stays_below(path: str) -> bool:
    """Tell whether a path stays below a root under both path grammars, however it is folded."""
    for form in (path, unicodedata.normalize("NFKC", path), path.casefold()):
        for module, root in ((posixpath, "/srv/volume"), (ntpath, "C:\\srv\\volume")):
            below = module.normpath(module.join(root, form)).startswith(root + module.sep)
            if not below or module.isabs(form) or module.splitdrive(form)[0]:
                return False
    return "\0" not in path and Path(path).parts == tuple(path.split("/"))


def names(count: int) -> Iterator[str]:
    """Make names from what has hurt others, always the same ones."""
    chance = random.Random(20260820)
    for _ in range(count):
        parts = [
            chance.choice(NASTY) if chance.random() < 0.7 else "".join(chance.choices(LETTERS, k=4))
            for _ in range(chance.randint(0, 4))
        ]
        yield chance.choice(STARTS) + chance.choice(SEPARATORS).join(parts)


@pytest.mark.slow
def test_no_name_leaves_its_root():
    """Of 100,000 names, each is refused or stays below its root; enough of them are accepted to mean it."""
    accepted = [name for name in names(100_000) if path_problem(name) is None]

    assert [name for name in accepted if not stays_below(name)] == []
    assert len(accepted) > 1000


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text())
def test_no_text_leaves_its_root(path: str):
    """The same for any text at all."""
    assert path_problem(path) is not None or stays_below(path)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "it is empty"),
        ("/etc/passwd", "it is absolute"),
        ("~/x", "it is absolute"),
        ("a/../b", "it has the component '..'"),
        ("a//b", "it has an empty component"),
        ("a/b/", "it has an empty component"),
        ("a\\b", "'\\\\' cannot be in a file name on Windows"),
        ("a/NUL.safetensors", "'NUL' is a device on Windows"),
        ("a/b. ", "a component ends with a dot or a space, which Windows drops"),
        ("a\x00b", "it holds the invisible character '\\x00'"),
        ("a／b", "it holds a look-alike of a separator"),
        ("．．/b", "it has the component '..'"),
        ("\ud800", "it is not valid Unicode"),
        ("a/" + "x" * 231, "a component has more than 230 bytes"),
    ],
)
def test_a_refusal_says_why(path: str, problem: str):
    """The message names the problem and shows the path."""
    assert path_problem(path) == problem
    with pytest.raises(InvalidArgument, match="is not a usable path"):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["checkpoints/x.safetensors", "loras/Ünïcode 图.safetensors", "a/b c/d-e_f.1.2.pth", "contrast/x"]
)
def test_ordinary_names_are_fine(path: str):
    """Spaces, accents and other scripts are no reason to refuse a name."""
    assert check_path(path) == path


def test_places_of_one_file():
    """All that belongs to a file lies under the tool's own folder, by the file's path."""
    path = volume_layout.models_path("checkpoints/x.bin")

    assert path == "models/checkpoints/x.bin"
    assert volume_layout.record_path(path) == ".comfyform/records/models/checkpoints/x.bin.json"
    assert volume_layout.partial_path(path) == ".comfyform/partial/models/checkpoints/x.bin"
    assert volume_layout.quarantine_path(path, "ab" * 32) == (
        ".comfyform/quarantine/models/checkpoints/x.bin.abababababab"
    )


def test_the_cache_has_huggingface_hubs_layout():
    """A file of the cache, and the ref that makes its commit the main branch."""
    commit = "84e5a410d9cead4de2f847e7c9369a6440bdfaca"
    path = volume_layout.hf_cache_path("SWivid/F5-TTS", commit, "F5TTS_v1_Base/vocab.txt")

    assert path == f"huggingface-cache/hub/models--SWivid--F5-TTS/snapshots/{commit}/F5TTS_v1_Base/vocab.txt"
    assert volume_layout.cache_ref(path) == ("huggingface-cache/hub/models--SWivid--F5-TTS/refs/main", commit)
    assert volume_layout.cache_ref("models/checkpoints/x.bin") is None
    with pytest.raises(InvalidArgument, match="needs all its 40 hex digits"):
        volume_layout.hf_cache_path("SWivid/F5-TTS", "main", "x")


@pytest.mark.parametrize(
    "path",
    [
        "models/custom_nodes/x.safetensors",
        "models/Custom_Nodes/pack/x.bin",
        "models/base_path/x.safetensors",
        "models/is_default/x.safetensors",
        "models/checkpoints/x.py",
        "models/checkpoints/X.PY",
        "models/sonic/lib.so",
        "models/sonic/lib.so.1.2",
        "models/loras/run.sh",
        f"{volume_layout.HF_HUB}/models--a--b/snapshots/{'a' * 40}/modeling.py",
    ],
)
def test_code_has_no_place_among_models(path: str):
    """ComfyUI imports what lies in custom_nodes, and obeys base_path and is_default."""
    with pytest.raises(InvalidArgument, match="is not a model file's place"):
        check_wanted_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "models/checkpoints/x.py.safetensors",
        "models/checkpoints/custom_nodes/x.safetensors",
        "models/my_custom_nodes/x.bin",
        "models/configs/v1.yaml",
        "models/x.pth",
        f"{volume_layout.HF_HUB}/models--a--b/snapshots/{'a' * 40}/model.safetensors.index.json",
    ],
)
def test_models_and_their_companions_have_one(path: str):
    """What loaders read is not code, whatever else is in its name."""
    assert check_wanted_path(path) == path
