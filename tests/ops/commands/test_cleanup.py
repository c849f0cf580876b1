"""Commands beside the daily four: add, lock, check-workflow, remove, prune, cost, the page, and Ctrl-C."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from backend.errors import ConfigError, InvalidArgument, SourceMissing
from ops.commands import cleanup as commands_upkeep
from ops.commands import models as commands_models
from ops.commands import registry as commands_registry
from ops.registry.load import load, lock_file
from ops.registry.lockfile import read_lock
from tests.support.emulation import Emulator
from tests.support.ops_desk import HEAD, ROOT, SVD, Desk
from tests.support.ops_places import put, safetensors, serve

DEMO = str(ROOT / "examples" / "demo" / "models-registry.yaml")


@pytest.fixture
def desk(emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(emu, tmp_path, capsys)


def test_add_writes_what_the_source_says(desk: Desk):
    """Size, hash, licence and gate come from the source; the rest of the file stays as it was."""
    added = desk.run(
        commands_registry.add,
        SVD,
        path="checkpoints/video/svd_xt_1_1.safetensors",
        used_by="lipsync",
        registry=str(desk.registry),
    )
    desk.run(
        commands_registry.add,
        "hf:Comfy-Org/z_image_turbo:split_files/vae/ae.safetensors",
        required=True,
        registry=str(desk.registry),
    )
    registry = load(desk.registry)
    (svd,) = registry.optional

    assert (svd.name, svd.gated, svd.license, svd.used_by) == ("svd_xt_1_1", True, "other", ("lipsync",))
    assert svd.files[0].sha256 == added["sha256"]
    # The hash is that of one commit, so the commit is written down with it.
    assert re.fullmatch(SVD.replace(":svd", "@[0-9a-f]{40}:svd"), svd.files[0].source)
    assert (added["license"], added["gated"]) == ("other", True)
    assert [file.path for file in registry.files()] == ["sonic/unet.pth", "vae/ae.safetensors"]
    assert desk.registry.read_text().startswith(HEAD[: HEAD.index("\n\n# Things")])
    assert "# Things that are nice to have." in desk.registry.read_text()


def test_add_refuses_what_it_cannot_place(desk: Desk):
    """A file whose folder does not follow, a name that is taken, a source that is not there."""
    before = desk.registry.read_bytes()

    with pytest.raises(InvalidArgument, match="Pass --path"):
        desk.run(commands_registry.add, SVD, registry=str(desk.registry))
    with pytest.raises(InvalidArgument, match="has a model 'sonic' already"):
        desk.run(commands_registry.add, SVD, path="vae/x.pt", name="sonic", registry=str(desk.registry))
    with pytest.raises(InvalidArgument, match=r"sonic/unet.pth is in the registry already, as sonic"):
        desk.run(commands_registry.add, SVD, path="sonic/unet.pth", name="two", registry=str(desk.registry))
    with pytest.raises(InvalidArgument, match="invalid model name 'a: b'"):
        desk.run(commands_registry.add, SVD, path="vae/x.pt", name="a: b", registry=str(desk.registry))
    with pytest.raises(SourceMissing):
        desk.run(commands_registry.add, "hf:openai/whisper-tiny:no.bin", registry=str(desk.registry))

    assert desk.registry.read_bytes() == before


def test_lock_says_what_moved(emu: Emulator, desk: Desk):
    """The first time nothing moved; after a change at the source, that is said, with both hashes."""
    first = desk.run(commands_registry.lock, registry=str(desk.registry))
    before = load(desk.registry).files()[0]
    body = {"repo": "LeonJoe13/Sonic", "path": "Sonic/unet.pth", "size_bytes": 5000, "seed": "other"}
    created = emu.control("POST", "/hub/files", body)
    second = desk.run(commands_registry.lock, registry=str(desk.registry))
    after = load(desk.registry).files()[0]

    assert first["moved"] == first["failed"] == []
    assert len(second["moved"]) == 1
    assert f"size {before.size_bytes} → 5000" in second["moved"][0]
    assert (after.sha256, after.size_bytes) == (created["sha256"], 5000)
    assert created["commit"] in after.source


def test_lock_keeps_what_it_could_resolve(desk: Desk, capsys: pytest.CaptureFixture[str]):
    """One source that is gone is an error that names it; the others are locked all the same."""
    text = desk.registry.read_text().replace(
        "optional: {}", "optional: {gone: {files: [{path: vae/x.pt, source: 'hf:openai/whisper-tiny:x.pt'}]}}"
    )
    desk.registry.write_text(text)

    with pytest.raises(SourceMissing, match="has no file 'x"):
        desk.run(commands_registry.lock, registry=str(desk.registry))

    assert load(desk.registry).files()[0].sha256


def test_lock_learns_the_size_where_no_metadata_has_it(emu: Emulator, desk: Desk):
    """An address is looked at, a small file read; CivitAI's size is that of its download, its hash too if
    need be.
    """
    served = serve(emu, size=5000)
    civitai = httpx.get(f"{emu.url('civitai')}/api/download/models/128713", follow_redirects=True).content
    desk.registry.write_text(
        f"optional:\n  a: {{files: [{{path: vae/a.pt, source: '{served.source}'}}]}}\n"
        f"  b: {{files: [{{path: vae/b.pt, source: 'civitai:128713'}}]}}\n"
    )

    desk.run(commands_registry.lock, registry=str(desk.registry))
    odd = {"status": 200, "body": {"files": [{"hashes": [1]}]}, "times": 1}
    emu.control("POST", "/faults", {"match": {"path": "/civitai/api/v1/*"}} | odd)
    again = desk.run(commands_registry.lock, registry=str(desk.registry))

    files = load(desk.registry).files(required_only=False)
    assert again["moved"] == []
    assert [(file.size_bytes, file.sha256) for file in files] == [
        (5000, served.sha256),
        (len(civitai), hashlib.sha256(civitai).hexdigest()),
    ]


@pytest.mark.parametrize(("filename", "warned"), [("pack.zip", True), ("pack.safetensors", False)])
def test_an_archive_at_civitai_is_named(emu: Emulator, desk: Desk, filename: str, warned: bool):
    """It would be stored as it is, and no node could load it."""
    emu.control("POST", "/civitai/versions", {"id": 4712, "filename": filename, "size_bytes": 70_000})
    screen = io.StringIO()
    with contextlib.redirect_stderr(screen):
        commands_registry.add("civitai:4712", registry=str(desk.registry), settings=desk.settings)

    shown = " ".join(screen.getvalue().split())
    assert (f"civitai:4712 is an archive, {filename}. ComfyUI does not read archives" in shown) == warned


def test_a_pin_outranks_what_a_source_announces(desk: Desk):
    """The lock has the pinned hash, not the announced size; the sentence names both hashes, each time."""
    pin = "a" * 64
    desk.registry.write_text(
        f'optional: {{a: {{files: [{{path: vae/a.pt, source: "civitai:128713", sha256: "{pin}"}}]}}}}\n'
    )
    for _ in range(2):
        found = desk.run(commands_registry.lock, registry=str(desk.registry))

        assert found["failed"] == []
        (sentence,) = found["overruled"]
        assert f"civitai:128713: the registry has sha256 {pin}, its source announces " in sentence
        locked, problems = read_lock(lock_file(desk.registry))
        assert problems == []
        assert locked["civitai:128713"].sha256 == pin
        assert locked["civitai:128713"].size_bytes is None
        assert load(desk.registry).files(required_only=False)[0].sha256 == pin


@pytest.mark.parametrize(
    ("source", "fault", "message"),
    [
        ("url:{hub}/files/none.bin", None, "the server answered 404"),
        ("civitai:128713", {"status": 200, "body": [1]}, "something that is not an object"),
        ("hf:openai/whisper-tiny:config.json', sha256: '" + "a" * 64, None, "conflict with the registry for"),
    ],
)
def test_lock_names_what_cannot_be_had(
    emu: Emulator, desk: Desk, source: str, fault: dict[str, Any] | None, message: str
):
    """An address without a file, a service with an odd answer, a pin that its source does not keep."""
    if fault is not None:
        emu.control("POST", "/faults", {"match": {"path": "/civitai/api/v1/*"}, "times": 0} | fault)
    source = source.replace("{hub}", emu.url("hub"))
    desk.registry.write_text(f"optional: {{a: {{files: [{{path: vae/a.pt, source: '{source}'}}]}}}}\n")

    with pytest.raises(SourceMissing, match=r"^1 source is not resolved:\n") as refused:
        desk.run(commands_registry.lock, registry=str(desk.registry))

    assert message in str(refused.value)


def test_a_workflow_is_checked(desk: Desk, tmp_path: Path):
    """What the registry provides is named; what nobody provides is an error."""
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps({"1": {"class_type": "SONICTLoader", "inputs": {"sonic_unet": "unet.pth"}}}))
    found = desk.run(commands_upkeep.check_workflow, str(graph), registry=DEMO)
    graph.write_text(json.dumps({"1": {"class_type": "VAELoader", "inputs": {"vae_name": "no.pt"}}}))

    assert [model["provided_by"] for model in found["models"] if model["category"]] == ["sonic"]
    assert found["nodes"] == [{"name": "SONICTLoader", "count": 1, "pack": "smthemex/ComfyUI_Sonic"}]
    with pytest.raises(SourceMissing, match="Nothing provides no"):
        desk.run(commands_upkeep.check_workflow, str(graph), registry=DEMO)


@pytest.mark.slow
def test_prune_keeps_what_is_referred_to(desk: Desk, tmp_path: Path):
    """Registry and workflows keep their files; everything else goes, after the plan was shown."""
    for name in (
        "loras/listed.safetensors",
        "loras/used.safetensors",
        "loras/unused.safetensors",
        "sonic/unet.pth",
    ):
        path = desk.volume / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    graph = tmp_path / "graph.json"
    graph.write_text(
        json.dumps({"1": {"class_type": "LoraLoader", "inputs": {"lora_name": "used.safetensors"}}})
    )
    saved = tmp_path / "saved.json"
    power = {"type": "Power Lora Loader (rgthree)", "widgets_values": [{"lora": "listed.safetensors"}]}
    saved.write_text(json.dumps({"nodes": [power]}))
    options = {"registry": str(desk.registry), "workflows": f"{graph}, {saved}", "transport": "s3"}

    rehearsed = desk.run(commands_upkeep.prune, dry_run=True, **options)
    pruned = desk.run(commands_upkeep.prune, yes=True, **options)

    assert rehearsed["done"] == []
    assert [done["path"] for done in pruned["done"]] == ["models/loras/unused.safetensors"]
    left = sorted(path.name for path in desk.volume.rglob("*") if path.is_file())
    assert left == ["listed.safetensors", "unet.pth", "used.safetensors"]
    saved.write_text("{")
    with pytest.raises(InvalidArgument, match=f"^{saved}: Invalid workflow: not JSON"):
        desk.run(commands_upkeep.prune, **options)


def test_what_a_workflow_carries_becomes_the_entries(desk: Desk):
    """Address, folder and hash make the entry; a contradicted hash or a local file makes none."""
    right = serve(desk.emu, name="right.safetensors", content=safetensors(300, seed=1))
    wrong = serve(desk.emu, name="wrong.safetensors", content=safetensors(300, seed=2))
    large = serve(desk.emu, name="large.safetensors", size=33 * 1024 * 1024)
    names = {"right": right, "wrong": wrong, "large": large}
    listed = [
        {
            "name": f"{name}.safetensors",
            "directory": "clip",
            "url": served.source.removeprefix("url:"),
            "hash": "A" * 64 if name == "wrong" else served.sha256.upper(),
            "hash_type": "SHA256",
        }
        for name, served in names.items()
    ]
    listed.append({"name": "mine.safetensors", "directory": "loras", "url": "local:loras/mine.safetensors"})
    graph = desk.models / "graph.json"
    graph.write_text(json.dumps({"nodes": [], "models": listed}))
    before = desk.registry.read_text()
    options: dict[str, Any] = {"registry": str(desk.registry), "add": True}

    with pytest.raises(ConfigError, match="--yes"):
        desk.run(commands_upkeep.check_workflow, str(graph), **options)
    unchanged = desk.registry.read_text()
    with pytest.raises(SourceMissing, match=r"^Nothing provides mine.safetensors, wrong.safetensors\."):
        desk.run(commands_upkeep.check_workflow, str(graph), yes=True, **options)

    assert unchanged == before
    entries = {model.name: model.files[0] for model in load(desk.registry).optional}
    assert entries.keys() == {"right", "large"}
    assert (entries["large"].path, entries["large"].source, entries["large"].sha256) == (
        "text_encoders/large.safetensors",
        large.source,
        large.sha256,
    )
    assert entries["right"].sha256 == right.sha256
    assert "sonic: # the pack" in desk.registry.read_text()


@pytest.mark.slow
def test_remove_takes_paths(desk: Desk):
    """What was there is gone, what was not is said, and nothing but models can be named."""
    path = desk.volume / "models/loras/x.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")

    removed = desk.run(
        commands_upkeep.remove, "models/loras/x.safetensors,models/loras/y.pt", yes=True, transport="s3"
    )

    assert removed == {"removed": ["models/loras/x.safetensors"], "missing": ["models/loras/y.pt"]}
    assert not path.exists()
    with pytest.raises(InvalidArgument):
        desk.run(commands_upkeep.remove, "outputs/x.png", yes=True, transport="s3")
    with pytest.raises(InvalidArgument, match="No file was given"):
        desk.run(commands_upkeep.remove, " , ", yes=True, transport="s3")


@pytest.mark.parametrize(
    "name",
    [
        "text_encoders/caf\u00e9.safetensors",
        "models/clip/caf\u00e9.safetensors",
        "clip/cafe\u0301.safetensors",
    ],
)
def test_remove_takes_each_name_of_a_file(desk: Desk, name: str):
    """As in a registry, by an alias of its folder, and with composed or decomposed letters."""
    put(desk.volume / "models/clip/cafe\u0301.safetensors")

    answer = desk.run(commands_upkeep.remove, name, yes=True, transport="s3")

    assert answer == {"removed": ["models/clip/cafe\u0301.safetensors"], "missing": []}
    assert not (desk.volume / "models/clip/cafe\u0301.safetensors").exists()


def test_the_page_and_the_sections(desk: Desk, tmp_path: Path):
    """--html writes a page without markup from names; --write writes what the tool owns and nothing else."""
    odd = desk.volume / "models" / "loras" / "a&b.safetensors"
    odd.parent.mkdir(parents=True)
    odd.write_bytes(b"x")
    page = tmp_path / "page.html"
    (desk.models / "vae").mkdir()
    (desk.models / "vae" / "mine.pt").write_bytes(b"abc")

    desk.run(commands_models.compare, registry=str(desk.registry), transport="s3", html=str(page), write=True)
    desk.run(commands_models.scan, registry=str(desk.registry), write=True, hash=True)
    value = yaml.safe_load(desk.registry.read_text())

    assert "a&amp;b.safetensors" in page.read_text()
    assert "http" not in page.read_text().replace("http-equiv", "")
    assert desk.registry.read_text().startswith(HEAD)
    assert [file["path"] for file in value["runpod_status"]["files"]] == ["models/loras/a&b.safetensors"]
    assert value["local_scan"]["files"][0]["path"] == "models/vae/mine.pt"
    assert len(value["local_scan"]["files"][0]["sha256"]) == 64
