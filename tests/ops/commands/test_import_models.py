"""`inv models.import`: this machine's models become registry entries that the volume can fetch by itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from backend.errors import InvalidArgument, SourceMissing
from ops.commands import import_models as commands_import
from ops.commands import models as commands_models
from ops.registry.load import load
from tests.support.emulation import Emulator
from tests.support.ops_desk import Desk
from tests.support.ops_places import put, safetensors, settings_of
from tests.support.worker_endpoint import Studio

pytestmark = pytest.mark.slow
REPO = "me/my-models"
OWN = "someone/own-page"


@pytest.fixture
def desk(emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(emu, tmp_path, capsys)


def _to_hub(emu: Emulator, path: str, content: bytes, repo: str = REPO, **more: Any) -> None:
    body = {"repo": repo, "path": path, "content_b64": base64.b64encode(content).decode()}
    emu.control("POST", "/hub/files", body | more)


def _to_civitai(emu: Emulator, version: int, content: bytes, *others: bytes) -> None:
    listed = [
        {
            "id": 10 + index,
            "name": f"other{index}.safetensors",
            "content_b64": base64.b64encode(other).decode(),
        }
        for index, other in enumerate(others)
    ]
    body = {"id": version, "filename": "x.safetensors", "content_b64": base64.b64encode(content).decode()}
    emu.control("POST", "/civitai/versions", body | {"others": listed, "words": ["ink"]})


def _with_metadata(text: str) -> bytes:
    """Make a safetensors file whose author wrote a text into its header."""
    header = {"__metadata__": {"modelspec.description": text}}
    content = json.dumps(header | {"a": {"dtype": "U8", "shape": [64], "data_offsets": [0, 64]}}).encode()
    return struct.pack("<Q", len(content)) + content + bytes(range(64))


def _imported(desk: Desk, **options: Any) -> Any:
    return desk.run(commands_import.import_, registry=str(desk.registry), yes=True, **options)


def _entry(answer: Any, path: str) -> Any:
    return next(entry for entry in answer["entries"] if entry["path"] == path)


def test_forty_models_are_imported_and_none_is_sent_from_this_machine(
    emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """One command finds 20 files at Hugging Face and 20 at CivitAI; a worker then fetches all of them."""
    desk = Desk(emu, tmp_path, capsys)
    studio = Studio(emu, "comfyform/ops")
    settings = {"RUNPOD_OPS_ENDPOINT_ID": studio.endpoint_id, "RUNPOD_VOLUME_ID": studio.volume_id}
    desk.settings = settings_of(emu, **(desk.env | settings))
    expected: dict[str, bytes] = {}
    for number in range(20):
        content = safetensors(4000 + number, seed=number)
        expected[f"loras/hub {number:02}.safetensors"] = content
        _to_hub(emu, f"loras/renamed-{number}.safetensors", content, license="mit")
    for number in range(20):
        content = safetensors(5000 + number, seed=100 + number)
        expected[f"checkpoints/{number:02}-civitai.safetensors"] = content
        _to_civitai(emu, 700_000 + number, content)
    for path, content in expected.items():
        put(desk.models / path, content)
    desk.registry.write_text("# Mine.\nrequired: {}\noptional: {}\n")

    answer = _imported(desk, hf_repos=REPO, required=True)
    again = _imported(desk, hf_repos=REPO)
    synced = desk.run(commands_models.sync, registry=str(desk.registry), yes=True)

    sources = {entry["path"]: entry["source"] for entry in answer["entries"]}
    assert sources.keys() == expected.keys()
    assert sum(source.startswith(f"hf:{REPO}@") for source in sources.values()) == 20
    assert sum(source.startswith("civitai:7000") for source in sources.values()) == 20
    assert _entry(answer, "loras/hub 00.safetensors")["license"] == "mit"
    assert "ink" in _entry(answer, "checkpoints/00-civitai.safetensors")["note"]
    assert (again["entries"], len(again["present"])) == ([], 40)
    assert desk.registry.read_text().startswith("# Mine.\n")
    assert {done["status"] for done in synced["done"]} == {"fetched"}
    assert len(synced["done"]) == 40
    assert emu.requests("PUT", "/s3/*") == []
    for path, content in expected.items():
        assert (studio.volume / "models" / path).read_bytes() == content


def test_what_has_no_source_is_local_and_duplicates_are_named(
    desk: Desk, emu: Emulator, capsys: pytest.CaptureFixture[str]
):
    """Sources come from the registry, a file's own metadata and CivitAI; the rest is only here."""
    own = _with_metadata(f"See https://huggingface.co/{OWN}/tree/main.")
    second = safetensors(600, seed=2)
    private = safetensors(700, seed=3)
    _to_hub(emu, "a.safetensors", own, repo=OWN)
    _to_civitai(emu, 800_001, safetensors(500, seed=1), second)
    put(desk.models / "loras/1234.safetensors", own)
    put(desk.models / "loras/second.safetensors", second)
    put(desk.models / "vae/mine.safetensors", private)
    put(desk.models / "loras/sub/mine.safetensors", private)
    put(desk.models / "loras/page.safetensors", b"<!doctype html><p>Log in")
    put(desk.models / "sonic/unet.pth", b"other bytes than the registry's")
    before = desk.registry.read_text()

    rehearsed = desk.run(commands_import.import_, registry=str(desk.registry), dry_run=True)
    commands_import.import_(registry=str(desk.registry), dry_run=True, settings=desk.settings)
    shown = capsys.readouterr()
    unchanged = desk.registry.read_text()
    answer = _imported(desk)

    assert (rehearsed["written"], unchanged) == (False, before)
    assert answer["written"]
    assert re.search(r"mine-2 +vae/mine.safetensors +700 B +local:vae/mine.safetensors", shown.out)
    assert "2 of them, 1.40 kB, have no source but this machine." in shown.err
    assert "it is a web page" in shown.err
    assert _entry(answer, "loras/1234.safetensors")["source"].startswith(f"hf:{OWN}@")
    assert _entry(answer, "loras/second.safetensors")["source"] == "civitai:800001/10"
    mine = _entry(answer, "vae/mine.safetensors")
    assert (mine["source"], mine["same_bytes"]) == (
        "local:vae/mine.safetensors",
        ["loras/sub/mine.safetensors"],
    )
    assert mine["sha256"] == hashlib.sha256(private).hexdigest()
    assert answer["present"] == ["sonic/unet.pth"]
    assert len(answer["left_out"]) == 1
    assert "page.safetensors: it is a web page" in answer["left_out"][0]
    assert [model.name for model in load(desk.registry).optional] == ["1234", "second", "mine", "mine-2"]
    assert "sonic: # the pack" in desk.registry.read_text()

    # The same bytes under another name need no lookup: the registry knows where they come from.
    put(desk.models / "loras/copy.safetensors", second)
    requested = len(emu.requests(path="/civitai/*by-hash*"))
    copy = _entry(_imported(desk), "loras/copy.safetensors")
    assert (copy["source"], copy["same_bytes"]) == ("civitai:800001/10", ["loras/second.safetensors"])
    assert len(emu.requests(path="/civitai/*by-hash*")) == requested > 0


def test_a_failed_lookup_stops_no_other_one(desk: Desk, emu: Emulator):
    """What could be decided is written; the file whose lookup failed has no entry until the next run."""
    first, second = safetensors(400, seed=1), safetensors(500, seed=2)
    _to_hub(emu, "a.safetensors", first)
    _to_civitai(emu, 800_002, second)
    put(desk.models / "loras/first.safetensors", first)
    put(desk.models / "loras/second.safetensors", second)
    put(desk.models / "loras/third.safetensors", safetensors(600, seed=3))
    third = hashlib.sha256(safetensors(600, seed=3)).hexdigest().upper()
    emu.fault(f"/civitai/*{third}", status=403, times=1)

    with pytest.raises(SourceMissing, match=r"(?s)1 file has no entry:\n  loras/third.*403"):
        _imported(desk, hf_repos=f"{REPO},me/not-there")
    partly = [model.name for model in load(desk.registry).optional]
    answer = _imported(desk)

    assert partly == ["first", "second"]
    assert _entry(answer, "loras/third.safetensors")["source"] == "local:loras/third.safetensors"
    assert len(answer["entries"]) == 1


def test_a_busy_hugging_face_leaves_nothing_local(desk: Desk, emu: Emulator):
    """A file that a repository may have is not written as local while that repository does not answer."""
    put(desk.models / "loras/first.safetensors", safetensors(400, seed=1))
    _to_hub(emu, "a.safetensors", safetensors(400, seed=1))
    emu.fault(f"/hub/api/models/{REPO}*", status=503, times=0, headers={"Retry-After": "0"})

    with pytest.raises(SourceMissing, match="me/my-models is not compared"):
        _imported(desk, hf_repos=REPO)

    assert load(desk.registry).optional == ()
    with pytest.raises(InvalidArgument, match="expected ORG/NAME"):
        _imported(desk, hf_repos="my-models")
