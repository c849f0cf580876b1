"""Scanning this machine's models: what ComfyUI would find, and nothing read twice."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from ops.console.console import Console
from ops.console.model_tables import show_scan
from ops.files.model_content import examine
from ops.local.hash_cache import HashCache, hash_cache
from ops.local.scan import Root, ScannedFile, hash_all, look_inside, scan
from ops.models.categories import canonical, category, model_extensions
from ops.models.other_places import belongs_at
from tests.support.ops_places import put


def paths(found: Any) -> list[str]:
    return [file.path for file in found.files]


def test_files_are_found_by_category(tmp_path: Path):
    """Recursive, with aliases resolved and upper-case extensions; what is no model is only counted."""
    for name in (
        "checkpoints/video/svd.safetensors",
        "checkpoints/readme.txt",
        "clip/a.SafeTensors",
        "unet/b.gguf.sft",
        "t2i_adapter/c.pth",
        "sonic/whisper-tiny/config.json",
        "sonic/unet.pth",
        "configs/v1.yaml",
        "loose.ckpt.txt",
        "vae/.hidden",
    ):
        put(tmp_path / name)

    found = scan([Root(tmp_path)])

    assert paths(found) == [
        "models/checkpoints/video/svd.safetensors",
        "models/configs/v1.yaml",
        "models/controlnet/c.pth",
        "models/diffusion_models/b.gguf.sft",
        "models/text_encoders/a.SafeTensors",
        "models/sonic/unet.pth",
        "models/sonic/whisper-tiny/config.json",
    ]
    assert found.ignored == 3
    assert [entry["name"] for entry in found.to_json()["categories"]["checkpoints"]] == [
        "video/svd.safetensors"
    ]


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    """A linked folder is scanned once a category and by its real name, a link back ends, a dead one is told.

    A pipe is no file: nobody waits for what it may give one day.
    """
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere / "a.safetensors")
    models = tmp_path / "models"
    put(models / "loras" / "b.safetensors")
    (models / "checkpoints").symlink_to(elsewhere)
    (models / "loras" / "again").symlink_to(models)
    (models / "vae").mkdir()
    (models / "vae" / "dead.safetensors").symlink_to(tmp_path / "nowhere")
    (models / "vae" / "shared").symlink_to(elsewhere)
    for name in ("aloras", "zloras"):  # whichever is read first, the real name counts
        (models / "loras" / name).symlink_to(put(models / "loras" / "real" / "c.pt").parent)
    os.mkfifo(models / "vae" / "pipe.safetensors")

    found = look_inside(scan([Root(models)]))

    assert paths(found) == [
        "models/checkpoints/a.safetensors",
        "models/loras/b.safetensors",
        "models/loras/real/c.pt",
        "models/vae/shared/a.safetensors",
    ]
    assert found.ignored == 1
    assert found.unreadable == (f"{models}/vae/dead.safetensors: No such file or directory",)


def test_a_name_that_is_not_utf8_survives(tmp_path: Path):
    """It is listed, goes through JSON, and can be opened again by what JSON gives."""
    raw = os.fsencode(tmp_path) + b"/loras/caf\xe9.safetensors"
    put(tmp_path / "loras" / "x.pt")
    Path(os.fsdecode(raw)).write_bytes(b"abc")

    found = scan([Root(tmp_path)])
    name = json.loads(json.dumps(found.to_json()))["categories"]["loras"][0]["name"]

    assert (tmp_path / "loras" / name).read_bytes() == b"abc"


def test_a_name_is_no_command_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whatever a name holds, its row is one line, and what no terminal shows is written as an escape."""
    for name in (b"a\nb.pt", b"c\x1b[31md.pt", b"e\xff.pt", "f\u202eg.pt".encode(), "ü 图.pt".encode()):
        Path(os.fsdecode(os.fsencode(put(tmp_path / "loras/x.txt").parent) + b"/" + name)).write_bytes(b"1")

    show_scan(Console(), scan([Root(tmp_path)]))

    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.removeprefix("loras").partition("1 B")[0].strip() for row in rows] == [
        r"a\nb.pt",
        r"c\x1b[31md.pt",
        r"e\xff.pt",
        r"f\u202eg.pt",
        "ü 图.pt",
    ]


def test_hashes_are_remembered(tmp_path: Path):
    """A second run reads nothing; a file that was touched, replaced or resized is read again."""
    same = put(tmp_path / "m/loras/a.safetensors", b"aaa")
    changed = put(tmp_path / "m/loras/b.safetensors", b"bbb")
    with hash_cache(tmp_path / "cache.sqlite") as hashes:
        first = hash_all(scan([Root(tmp_path / "m")]), hashes)
    stat = same.stat()
    same.write_bytes(b"AAA")
    os.utime(same, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed.write_bytes(b"BBBB")
    read: list[str] = []

    with hash_cache(tmp_path / "cache.sqlite") as hashes:
        second = hash_all(
            scan([Root(tmp_path / "m")]), hashes, on_bytes=lambda file, _: read.append(file.name)
        )

    assert second.files[0].sha256 == first.files[0].sha256
    assert second.files[1].sha256 != first.files[1].sha256
    assert read == ["b.safetensors"]


def test_a_damaged_cache_is_made_anew(tmp_path: Path):
    """The cache may be anything; then nothing is known."""
    path = put(tmp_path / "cache.sqlite", b"not a database at all" * 100)
    cache = HashCache(path)
    file = ScannedFile(category="vae", name="a", path="models/vae/a", location="/models/a", size_bytes=1)
    cache.keep(file, "ab" * 32)

    assert cache.known([file]) == {"/models/a": "ab" * 32}
    cache.close()


def test_a_large_hash_is_on_the_disk_at_once(tmp_path: Path):
    """Small ones are written together; what took long to hash, a killed process does not hash again."""
    cache, reader = HashCache(tmp_path / "c.sqlite"), HashCache(tmp_path / "c.sqlite")
    small, large = (
        ScannedFile(
            category="vae", name=name, path=f"models/vae/{name}", location=f"/m/{name}", size_bytes=size
        )
        for name, size in (("small", 1), ("large", 1 << 30))
    )
    cache.keep(small, "ab" * 32)
    before = reader.known([small, large])
    cache.keep(large, "cd" * 32)

    assert before == {}
    assert reader.known([small, large]) == {"/m/small": "ab" * 32, "/m/large": "cd" * 32}
    cache.close()
    reader.close()


def test_files_of_every_size_are_hashed(tmp_path: Path):
    """Small files are hashed here and large ones in threads: all of them come out, each with its own hash."""
    contents = {f"{size}.safetensors": os.urandom(size) for size in (0, 1, 1 << 20, (1 << 20) + 1, 3 << 20)}
    for name, content in contents.items():
        put(tmp_path / "m/loras" / name, content)

    with hash_cache(tmp_path / "c.sqlite") as hashes:
        hashed = hash_all(scan([Root(tmp_path / "m")]), hashes)

    assert {file.name: file.sha256 for file in hashed.files} == {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }


def test_an_unreadable_file_is_reported(tmp_path: Path):
    """A file that vanishes between scan and hash is a sentence, not the end."""
    put(tmp_path / "m/loras/a.safetensors")
    put(tmp_path / "m/loras/b.safetensors")
    found = scan([Root(tmp_path / "m")])
    (tmp_path / "m/loras/a.safetensors").unlink()

    with hash_cache(tmp_path / "c.sqlite") as hashes:
        hashed = hash_all(found, hashes)

    assert [bool(file.sha256) for file in hashed.files] == [False, True]
    assert hashed.unreadable == (f"{tmp_path}/m/loras/a.safetensors: No such file or directory",)


def tensors(header: dict[str, Any], data: bytes) -> bytes:
    """Make a safetensors file."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


WHOLE = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


@pytest.mark.parametrize(
    ("content", "architecture", "problem"),
    [
        (tensors(WHOLE | {"__metadata__": {"modelspec.architecture": "sdxl"}}, b"1234"), "sdxl", None),
        (tensors(WHOLE, b"1234"), None, None),
        (tensors(WHOLE, b"12"), None, "it has 71 bytes and its header promises 73"),
        (b"", None, "it is too short for a safetensors file"),
        (b"PK\x03\x04 zip", None, "it is a ZIP archive; unpack it, and use the model file in it"),
        (struct.pack("<Q", 4) + b"{no}", None, "its header is damaged"),
        (tensors({"w": {"data_offsets": "x"}}, b""), None, "its header is damaged"),
        (tensors({"w": {"data_offsets": [0, float("inf")]}}, b""), None, "its header is damaged"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, None, "its header is damaged"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            None,
            "it is a pointer of Git LFS; the file itself was not fetched",
        ),
        (b"\n<!DOCTYPE html><title>Log in", None, "it is a web page; its source may want a login"),
    ],
)
def test_headers_of_safetensors(
    tmp_path: Path, content: bytes, architecture: str | None, problem: str | None
):
    """A file that is cut short, or something else, is seen without loading it."""
    path = put(tmp_path / "m/loras/a.safetensors", content)

    header = examine(path)
    (file,) = look_inside(scan([Root(tmp_path / "m")])).files

    assert (header.architecture, header.problem) == (architecture, problem)
    assert (file.architecture, file.problem) == (architecture, problem)


@pytest.mark.parametrize(
    ("path", "kind", "name", "model"),
    [
        ("clip/a.safetensors", "text_encoders", "text_encoders/a.safetensors", True),
        ("text_encoders/a.bin", "text_encoders", "text_encoders/a.bin", True),
        ("unet/sub/a.sft", "diffusion_models", "diffusion_models/sub/a.sft", True),
        ("checkpoints/a.txt", "checkpoints", "checkpoints/a.txt", False),
        ("f5/vocab.txt", "f5", "f5/vocab.txt", True),
        ("diffusers/x/config.json", "diffusers", "diffusers/x/config.json", True),
        ("classifiers/labels", "classifiers", "classifiers/labels", True),
        ("classifiers/a.safetensors", "classifiers", "classifiers/a.safetensors", False),
        ("a.safetensors", "", "a.safetensors", True),
        ("config.json", "", "config.json", False),
    ],
)
def test_categories(path: str, kind: str, name: str, model: bool):
    """What a path is, by its name alone."""
    counts = PurePosixPath(path).suffix.lower() in model_extensions(category(path))
    assert (category(path), canonical(path), counts) == (kind, name, model)


def test_gguf_models_of_the_core_folders_are_models(tmp_path: Path):
    """A scan, a compare and check-workflow agree on what a model file is."""
    for kind in ("unet", "diffusion_models", "text_encoders", "clip"):
        put(tmp_path / kind / f"{kind}-Q6_K.gguf")

    found = scan([Root(tmp_path)])

    assert (len(found.files), found.ignored) == (4, 0)
    assert belongs_at("ComfyUI/models/unet/x-Q6_K.gguf") == "models/unet/x-Q6_K.gguf"
