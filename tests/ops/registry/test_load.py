"""The registry and its lock: what is wanted, every problem at once with its line, and what a lock adds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from backend.errors import ConfigError, RegistryError
from ops.registry.load import UNRESOLVED, load, lock_file
from ops.registry.lockfile import Locked, read_lock, write_lock
from ops.registry.schema import json_schema

ROOT = Path(__file__).parents[3]
SHA = "ab" * 32
COMMIT = "84e5a410d9cead4de2f847e7c9369a6440bdfaca"
ONE = "required: {a: {files: [\n  {\n  path: a/b.bin,\n  source: 'url:https://x/b',\n  "
A = "{files: [{path: vae/a.pt, source: 'url:https://x/a'}]}"
CACHE = """\
required:
  f5:
    files:
      - path: SWivid/F5-TTS/vocab.txt
        place: hf_cache
        source: hf:SWivid/F5-TTS:vocab.txt
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(RegistryError) as caught:
        load(write(tmp_path, text))
    return caught.value.problems


def test_the_shipped_registry_is_whole():
    """It has what the four verbs need; every hash pins its bytes, and what is gated says so."""
    registry = load(ROOT / "models-registry.yaml")

    assert {verb for model in registry.required for verb in model.used_by} == {
        "portrait",
        "imagine",
        "lipsync",
        "tts",
    }
    assert [model.name for model in registry.required if model.gated] == ["svd-xt-1-1"]
    assert all(file.sha256 for file in registry.files(required_only=False))
    assert all(model.license != "unknown" for model in registry.models)


def test_the_demo_registry_is_locked():
    """Sizes, hashes and revisions come from the lock beside it."""
    registry = load(ROOT / "examples/demo/models-registry.yaml")
    cached = [file for file in registry.files() if file.place == "hf_cache"]

    assert all(file.sha256 and file.size_bytes for file in registry.files())
    assert [COMMIT in file.volume_path for file in cached] == [True, True]
    assert all(f"@{COMMIT}:" in file.source for file in cached)


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ("", True),
        (f"sha256: '{SHA}'", True),
        ("sha256: 'AB'", False),
        ("size_bytes: -1", False),
        ("source: ftp:x", False),
        ("extra: 1", False),
    ],
)
def test_an_editor_sees_what_is_wrong(change: str, fine: bool):
    """The schema takes what is shipped, and refuses what can be seen without meaning."""
    schema = Draft202012Validator(json_schema())
    shipped = (ROOT / "models-registry.yaml").read_text()

    assert schema.is_valid(yaml.safe_load(shipped))
    assert schema.is_valid(yaml.safe_load(ONE + change + "}]}}")) == fine
    assert not schema.is_valid(yaml.safe_load(ONE.replace("{a:", "{A:") + "}]}}"))


def test_every_problem_is_named_with_its_line(tmp_path: Path):
    """Mistakes of the form and of the meaning, in one error, in the order of the file."""
    text = """\
required:
  Sonic:
    files: [{path: a.pth, source: "url:https://x/a"}]
  sonic:
    used_by: [lipsync, dance]
    files:
      - path: ../unet.pth
        source: hf:LeonJoe13/Sonic:Sonic/unet.pth
        sha256: 1234
      - path: sonic/a.pth
        source: ftp:nothing
        sha256: "AB"
        extra: 1
  svd:
    files:
      - {path: vae/x.bin, source: "url:https://x/1"}
      - {path: VAE/x.bin, source: "url:https://x/2"}
      - {path: a/b/c.txt, source: "hf:a/b:c.txt", place: hf_cache}
  svd: {}
optonal: {}
"""

    assert problems(tmp_path, text) == (
        (
            "models.yaml:2: required.Sonic: invalid model name 'Sonic': "
            "expected lowercase letters, digits, dots, underscores and hyphens."
        ),
        (
            "models.yaml:5: required.sonic.used_by[1]: "
            "input should be 'imagine', 'lipsync', 'portrait', 'tts' or 'workflow'."
        ),
        (
            "models.yaml:7: required.sonic.files[0].path: '../unet.pth' is not a usable path: "
            "it has the component '..'."
        ),
        "models.yaml:9: required.sonic.files[0].sha256 must be in quotes.",
        (
            "models.yaml:11: required.sonic.files[1].source: 'ftp:nothing' is not a source. "
            "Write hf:ORG/NAME@REVISION:FILE, url:https://…, civitai:VERSION_ID or local:PATH."
        ),
        ("models.yaml:12: required.sonic.files[1].sha256: invalid sha256 'AB': expected 64 hex digits."),
        "models.yaml:13: required.sonic.files[1].extra is an unknown key.",
        "models.yaml:19: duplicate key 'svd'; the first is on line 14.",
        "models.yaml:19: required.svd is missing 'files'.",
        "models.yaml:20: optonal is an unknown key.",
    )


def test_what_a_file_means_is_checked_too(tmp_path: Path):
    """One place for two files, whatever it is called and whoever would notice; a cache without a commit."""
    text = """\
required:
  svd:
    files:
      - {path: vae/x.bin, source: "url:https://x/1"}
      - {path: VAE/x.bin, source: "url:https://x/2"}
      - {path: a/b/c.txt, source: "hf:a/b:c.txt", place: hf_cache}
      - {path: a/b/c.txt, source: "url:https://x/3", place: hf_cache}
      - {path: a/b/other.txt, source: "hf:a/b:c.txt", place: hf_cache}
      - {path: clip/x.bin, source: "url:https://x/4"}
      - {path: text_encoders/x.bin, source: "url:https://x/5"}
      - {path: vae/y, source: "url:https://x/6"}
      - {path: vae/y/z.bin, source: "url:https://x/7"}
      - {path: loras/s.bin, source: "url:https://x/8", size_bytes: 5}
      - {path: loras/s.bin, source: "url:https://x/8", size_bytes: 6}
      - {path: models/loras/t.bin, source: "url:https://x/9"}
      - {path: custom_nodes/x.safetensors, source: "url:https://x/10"}
      - {path: loras/x.py, source: "url:https://x/11"}
optional:
  svd: {files: [{path: vae/x.bin, source: "url:https://x/1"}]}
"""
    cached = "A file of the cache needs a path ORG/NAME/FILE, and that file of that repository as its source."

    assert problems(tmp_path, text) == (
        "models.yaml:5: required.svd.files[1]: VAE/x.bin is already another file, on line 4.",
        (
            "models.yaml:6: required.svd.files[2]: 'main' is not a commit of a/b: a file in the cache needs "
            "all its 40 hex digits. Pin it in the source (hf:ORG/NAME@COMMIT:FILE) or run inv models.lock."
        ),
        f"models.yaml:7: required.svd.files[3]: {cached}",
        f"models.yaml:8: required.svd.files[4]: {cached}",
        "models.yaml:10: required.svd.files[6]: text_encoders/x.bin is already another file, on line 9.",
        "models.yaml:12: required.svd.files[8]: vae/y/z.bin cannot lie in vae/y, a file, on line 11.",
        "models.yaml:14: required.svd.files[10]: loras/s.bin is already another file, on line 13.",
        (
            "models.yaml:15: required.svd.files[11]: models/loras/t.bin begins with the models root, under "
            "which every path is. Write loras/t.bin."
        ),
        (
            "models.yaml:16: required.svd.files[12]: 'models/custom_nodes/x.safetensors' is not a model "
            "file's place: 'custom_nodes' is not a folder of models to ComfyUI, which runs or obeys what it "
            "finds there. Code reaches a worker with its image or its node packs, never as a model."
        ),
        (
            "models.yaml:17: required.svd.files[13]: 'models/loras/x.py' is not a model file's place: '.py' "
            "files are code, and no model loader reads them. "
            "Code reaches a worker with its image or its node packs, never as a model."
        ),
        "models.yaml:19: svd is already a model, on line 2.",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("required: [", "models.yaml:1: it is not YAML: expected the node"),
        ("[" * 5000, "models.yaml:1: it is not YAML: it is nested too deeply."),
        ("- a", "models.yaml:1: the registry must be a mapping."),
        ("required: 5", "models.yaml:1: required must be a mapping."),
        ("required: {a: {files: []}}", "models.yaml:1: required.a.files is empty."),
        ("# x\n# \0", "models.yaml:2: it is not YAML: it holds the character '\\x00'."),
        (f"required:\n  123: {A}", "models.yaml:2: '123' must be in quotes"),
        (f"required:\n  yes: {A}", "models.yaml:2: 'yes' must be in quotes"),
        (ONE + "sha256:", "models.yaml:5: required.a.files[0].sha256 is empty: give 64 hex digits"),
        (ONE + f"sha256: {SHA}", "models.yaml:5: required.a.files[0].sha256 must be in quotes."),
        (ONE + f"sha256: {'1' * 64}", "models.yaml:5: required.a.files[0].sha256 must be in quotes."),
        (ONE + f"sha256: '{'XY' * 32}'", "models.yaml:5: required.a.files[0].sha256: invalid sha256 'XYXY"),
        (ONE + "size_bytes: '5'", "models.yaml:5: required.a.files[0].size_bytes: input should be a valid"),
        (ONE + "size_bytes: -5", "models.yaml:5: required.a.files[0].size_bytes: input should be greater"),
        (
            ONE + f"size_bytes: {10**20}",
            "models.yaml:5: required.a.files[0].size_bytes: input should be less",
        ),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, text: str, problem: str):
    """Broken YAML and other documents are problems with a line, not tracebacks."""
    text += "}]}}" if text.startswith(ONE) else ""

    assert problems(tmp_path, text)[0].startswith(problem)


def test_aliases_of_aliases_do_not_fill_the_memory(tmp_path: Path):
    """A few lines that mean a billion values are refused."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]

    assert problems(tmp_path, "\n".join(lines)) == (
        "models.yaml:1: it is not YAML: its aliases expand to too many values.",
    )


def test_a_message_stays_readable(tmp_path: Path):
    """Of very many problems the first are spelled out, and the others counted."""
    models = "".join(f"  M{number}: {{}}\n" for number in range(60))
    path = write(tmp_path, f"required:\n{models}")

    with pytest.raises(RegistryError) as caught:
        load(path)

    message = str(caught.value).splitlines()
    assert len(caught.value.problems) == 120
    assert len(message) == 52
    assert message[-1] == "  … and 70 more."


def test_an_alias_around_itself_ends(tmp_path: Path):
    """A document that contains itself is refused like any other."""
    assert problems(tmp_path, "required: &a {b: *a}")


def test_no_file_is_said(tmp_path: Path):
    """A registry that is not there is one sentence."""
    with pytest.raises(ConfigError, match=r"Registry .* not found\."):
        load(tmp_path / "none.yaml")


def test_an_empty_registry_wants_nothing(tmp_path: Path):
    """Sections are optional."""
    assert load(write(tmp_path, "# nothing yet\n")).files(required_only=False) == ()


def test_a_lock_fills_in_and_a_pin_holds(tmp_path: Path):
    """The lock gives revision, size and hash; what the registry says itself is stronger."""
    path = write(tmp_path, CACHE + f'        sha256: "{SHA}"\n')
    locked = {"hf:SWivid/F5-TTS:vocab.txt": Locked(COMMIT, 17, "cd" * 32)}
    write_lock(lock_file(path), locked)

    (file,) = load(path).files()

    assert read_lock(lock_file(path)) == (locked, [])
    assert file.volume_path == (f"huggingface-cache/hub/models--SWivid--F5-TTS/snapshots/{COMMIT}/vocab.txt")
    assert (file.source, file.size_bytes, file.sha256) == (
        f"hf:SWivid/F5-TTS@{COMMIT}:vocab.txt",
        17,
        SHA,
    )


def test_without_a_lock_the_cache_is_unresolved(tmp_path: Path):
    """Resolving needs the sources before there is a lock."""
    (file,) = load(write(tmp_path, CACHE), lock=False).files()

    assert UNRESOLVED in file.volume_path
    assert file.source == "hf:SWivid/F5-TTS:vocab.txt"


def test_a_damaged_lock_is_named_too(tmp_path: Path):
    """Problems of both files come together."""
    path = write(tmp_path, "required: {a: {files: [{path: x.bin}]}}")
    lock_file(path).write_text('"hf:a/b:c":\n  sha256: "zz"\n')

    assert problems(tmp_path, path.read_text()) == (
        "models.yaml:1: required.a.files[0] is missing 'source'.",
        "models.lock.yaml:1: hf:a/b:c: sha256 must be 64 hex digits, in quotes.",
    )
    lock_file(path).write_text("hf:a/b:c: {size_bytes: true}\nhf:a/b:d: {size_bytes: -1}\n")
    assert problems(tmp_path, path.read_text())[1:] == (
        "models.lock.yaml:1: hf:a/b:c: size_bytes must be a number from 0 up.",
        "models.lock.yaml:2: hf:a/b:d: size_bytes must be a number from 0 up.",
    )


def test_a_commit_in_the_registry_holds_against_the_lock(tmp_path: Path):
    """A lock that was written before, or by hand, does not move what is pinned."""
    path = write(tmp_path, CACHE.replace("F5-TTS:vocab", f"F5-TTS@{COMMIT}:vocab"))
    write_lock(lock_file(path), {f"hf:SWivid/F5-TTS@{COMMIT}:vocab.txt": Locked("1" * 40, 17, SHA)})

    (file,) = load(path).files()

    assert (file.source, file.sha256) == (f"hf:SWivid/F5-TTS@{COMMIT}:vocab.txt", SHA)


def test_a_hash_in_upper_case_is_taken(tmp_path: Path):
    """CivitAI shows hashes so; it is one and the same hash."""
    file = tmp_path / "models.yaml"
    file.write_text(ONE + f"sha256: '{SHA.upper()}'}}]}}}}")

    assert load(file).files()[0].sha256 == SHA
