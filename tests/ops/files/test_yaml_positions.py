"""YAML from outside: bounded, and every error names its line, whichever file it stands in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.errors import ComfyformError, RegistryError
from ops.files.yaml_positions import NotYaml, read, read_value
from ops.local.comfyui_paths import with_extra
from ops.local.scan import scan
from ops.registry.add_model import Entry, add
from ops.registry.load import parse_registry
from ops.registry.lockfile import Locked, parse_lock, read_lock, render_lock, write_lock
from ops.registry.owned_sections import splice

LETTERS = "abcdefghij"
BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{this}: &{this} [{','.join([f'*{last}'] * 10)}]\n" for last, this in itertools.pairwise(LETTERS)
    ),
    "merge keys": "a0: &a0 {k: v}\n"
    + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
}
ODD_VALUES = {
    "a date that does not exist": "2024-99-99",
    "an integer of text": "!!int abc",
    "a truth of text": "!!bool maybe",
    "an integer of 5,000 digits": "9" * 5000,
    "a float of text": "!!float x",
    "an unknown tag": "!!python/name:os.system x",
}
SOURCES = {
    "long": f"url:https://example.org/{'x' * 1100}.safetensors",
    "almost long": f"url:https://example.org/{'x' * 990}.safetensors",
    "of 128": f"url:https://e.org/{'x' * 110}",
    "with quotes": 'hf:a/b:it\'s "quoted".bin',
    "with a backslash": "hf:a/b:c\\d.bin",
    "with a colon and a hash": "hf:a/b:c: d #e.bin",
    "of other scripts": "hf:a/b:墨心\uff1a👩\u200d🎨\u202e.bin",
    "with a line separator": "hf:a/b:c\u2028d\u0085e.bin",
    "with a tab": "hf:a/b:c\td.bin",
}


def readers() -> dict[str, Callable[[str, Path], object]]:
    """Every reader of a file that people write: each is given the text and a place for a file."""

    def extra(text: str, folder: Path) -> object:
        file = folder / "extra_model_paths.yaml"
        file.write_text(text, encoding="utf-8")
        return with_extra((), file)

    entry = Entry(
        name="new",
        path="loras/x.pt",
        source="hf:a/b:c",
        size_bytes=1,
        sha256=None,
        license="mit",
        gated=False,
    )
    return {
        "registry": lambda text, _: parse_registry(text, Path("r.yaml"), {}),
        "lock": lambda text, _: parse_lock(text, "r.lock.yaml"),
        "the tool's sections": lambda text, _: splice(text.encode(), {"local_scan": {}}),
        "an added model": lambda text, _: add(text.encode(), "optional", entry),
        "extra_model_paths": extra,
    }


def said(reader: Callable[[str, Path], object], text: str, folder: Path) -> str:
    """Read a text, and return the error's sentence or the problems that were found."""
    try:
        return str(reader(text, folder))
    except ComfyformError as error:
        return str(error)


@pytest.mark.parametrize("reader", readers().values(), ids=readers().keys())
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_text_that_makes_too_much_is_refused(
    reader: Callable[[str, Path], object], bomb: str, tmp_path: Path
):
    """Ten lines of aliases or merge keys stand for millions of values; none of them is made."""
    assert "its aliases expand to too many values" in said(reader, f"required: {{}}\n{bomb}", tmp_path)


@pytest.mark.parametrize("reader", readers().values(), ids=readers().keys())
@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES.keys())
def test_a_value_that_cannot_be_made_names_its_line(
    reader: Callable[[str, Path], object], value: str, tmp_path: Path
):
    """It is one of our errors, or one of the reader's problems, never Python's own."""
    text = f"required:\n  x:\n    note: {value}\n"
    with pytest.raises(NotYaml) as refused:
        read_value(text)
    assert refused.value.line == 3
    assert re.search(r":3:|line 3:", said(reader, text, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("reader", readers().values(), ids=readers().keys())
@pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 20_000, "? " * 20_000])
def test_deep_nesting_is_refused(reader: Callable[[str, Path], object], text: str, tmp_path: Path):
    """Nothing ends in a RecursionError."""
    assert re.search("nested too deeply|expected|mapping", said(reader, text, tmp_path))


def test_a_home_that_nobody_has(tmp_path: Path):
    """An extra_model_paths.yaml with a user's home that does not exist is refused by name."""
    file = tmp_path / "extra.yaml"
    file.write_text("x: {base_path: ~nobody-of-this-name, checkpoints: a}\n")

    with pytest.raises(RegistryError, match="nobody-of-this-name"):
        with_extra((), file)


def test_an_alias_to_itself_is_read():
    """A cycle is not endless."""
    assert read("a: &a [*a]\n").lines[("a",)] == 1


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_a_lock_reads_as_it_was_written(source: str, tmp_path: Path):
    """Whatever a source is called, every command reads what the tool wrote."""
    file = tmp_path / "r.lock.yaml"
    locked = {source: Locked("a" * 40, 5, "1" * 64), "hf:x/y:z": Locked(None, None, None)}

    write_lock(file, locked)

    assert read_lock(file) == (locked, [])


def test_a_lock_looks_as_before():
    """Its form is checked in: quotes around what could be taken for a number, one source after the other."""
    text = render_lock({"hf:a/b:c": Locked("1" * 40, 5, "2" * 64)})

    assert text.splitlines()[2:] == [
        '"hf:a/b:c":',
        f'  revision: "{"1" * 40}"',
        "  size_bytes: 5",
        f'  sha256: "{"2" * 64}"',
    ]


def test_a_lock_that_would_not_read_is_not_written(tmp_path: Path):
    """The file stays as it was: a lock that no command reads would block every model."""
    file = tmp_path / "r.lock.yaml"
    file.write_text("before")

    with pytest.raises(RegistryError):
        write_lock(file, {"hf:a/b:c": Locked("not a commit", 5, None)})

    assert file.read_text() == "before"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: {base_path: webuii, checkpoints: m/c}", "webuii/m/c (checkpoints): it does not exist"),
        ("b: {base_path: $UNSET_VAR/webui, vae: m/VAE}", "the variable $UNSET_VAR is not set"),
        ("b: {base_path: '${UNSET_VAR}/webui', vae: m/VAE}", "the variable ${UNSET_VAR} is not set"),
        ("c: {base_path: 'X:/AI', vae: m/VAE}", "X: is a drive of Windows, and this machine has none"),
        ("d: {vae: |\n    C:/AI/VAE\n  }", "C: is a drive of Windows"),
    ],
)
def test_a_folder_that_is_not_there_is_named(text: str, sentence: str, tmp_path: Path):
    """Not there is not empty: each folder is named as it was understood, with the reason."""
    file = tmp_path / "extra.yaml"
    file.write_text(text.replace("{vae: |\n    C:/AI/VAE\n  }", "\n  vae: |\n    C:/AI/VAE\n"))

    found = scan(with_extra((), file))

    assert [one for one in found.unreadable if sentence in one]


def test_a_misspelt_key_is_named(tmp_path: Path):
    """`base path` would otherwise be a category."""
    file = tmp_path / "extra.yaml"
    file.write_text("a:\n  base path: x\n  checkpoints: c\n")

    with pytest.raises(RegistryError, match="base path must be written base_path"):
        with_extra((), file)


def test_a_folder_of_two_categories_is_counted_once(tmp_path: Path):
    """GGUF loaders name the folders of others."""
    file = tmp_path / "extra.yaml"
    file.write_text("a:\n  checkpoints: c\n  diffusion_models: c\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.safetensors").touch()

    assert [one.path for one in scan(with_extra((), file)).files] == ["models/checkpoints/x.safetensors"]
