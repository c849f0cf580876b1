"""The seed's workflow, scan, compare, sync, verify, on an emulated RunPod, over both transports."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ConfigError, InvalidArgument, PartialApply, SourceMissing
from backend.settings import Settings
from ops.commands import models as commands_models
from ops.console.console import Console
from ops.models.volume_layout import partial_path
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator, alive
from tests.support.ops_places import PATH, kept, serve, settings_of
from tests.support.worker_endpoint import Studio, until

DEMO = str(Path(__file__).parents[3] / "examples" / "demo" / "models-registry.yaml")
UNET = "models/sonic/unet.pth"
pytestmark = pytest.mark.slow


class Desk:
    """Somebody who runs commands: their settings, their models folder, and what was printed."""

    def __init__(self, emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], transport: str):
        self.studio = Studio(emu, "comfyform/ops")
        self.transport = transport
        self.models = tmp_path / "models"
        (self.models / "checkpoints").mkdir(parents=True)
        self.settings: Settings = settings_of(
            emu,
            RUNPOD_OPS_ENDPOINT_ID=self.studio.endpoint_id,
            RUNPOD_VOLUME_ID=self.studio.volume_id,
            COMFYUI_MODELS_DIR=str(self.models),
            COMFYFORM_STATE_DIR=str(tmp_path / "state"),
        )
        self._capsys = capsys

    def run(self, command: str, code: int = 0, **options: Any) -> Any:
        """Run a command with --json, check its exit code and return what it printed."""
        if command != "scan":
            options = {"registry": DEMO, "transport": self.transport} | options
        self._capsys.readouterr()
        assert getattr(commands_models, command)(json=True, settings=self.settings, **options) == code
        return json.loads(self._capsys.readouterr().out)


@pytest.fixture(params=["job", "s3"])
def desk(
    request: pytest.FixtureRequest, emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Desk:
    """Return a desk for each transport."""
    return Desk(emu, tmp_path, capsys, request.param)


def test_the_seeds_workflow(desk: Desk):
    """An empty volume misses everything; sync brings it; verify sees it; then there is nothing to do."""
    (desk.models / "checkpoints" / "mine.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    manifest = desk.run("scan")
    before = desk.run("compare")
    synced = desk.run("sync", yes=True)
    after = desk.run("compare")
    verified = desk.run("verify", deep=True)
    again = desk.run("sync", yes=True)

    assert [entry["name"] for entry in manifest["categories"]["checkpoints"]] == ["mine.safetensors"]
    assert before["summary"]["missing_on_remote"] == [action["path"] for action in before["actions"]]
    assert len(before["summary"]["missing_on_remote"]) == 5
    assert {done["status"] for done in synced["done"]} == {"fetched"}
    assert after["summary"]["missing_on_remote"] == []
    assert {action["kind"] for action in after["actions"]} == {"keep"}
    assert verified["ok"]
    assert again["done"] == []


def test_what_was_deleted_or_damaged_is_found_and_mended(desk: Desk):
    """Compare names each file with its reason; sync fetches those and no others."""
    desk.run("sync", yes=True)
    volume = desk.studio.volume
    (volume / UNET).unlink()
    checkpoint = volume / "models/checkpoints/sd_xl_base_1.0.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    (volume / "models/loras").mkdir()
    (volume / "models/loras/extra.safetensors").write_bytes(b"extra")

    found = desk.run("compare")
    wrong = desk.run("verify", code=commands_models.WRONG)
    mended = desk.run("sync", yes=True)
    after = desk.run("compare")

    assert found["summary"]["missing_on_remote"] == [UNET]
    assert found["summary"]["wrong_size"] == ["models/checkpoints/sd_xl_base_1.0.safetensors"]
    assert found["summary"]["extra_on_remote"] == ["models/loras/extra.safetensors"]
    assert [file["path"] for file in wrong["files"] if not file["ok"]] == [
        "models/checkpoints/sd_xl_base_1.0.safetensors",
        UNET,
    ]
    assert sorted(done["path"] for done in mended["done"]) == [
        "models/checkpoints/sd_xl_base_1.0.safetensors",
        UNET,
    ]
    assert after["summary"]["missing_on_remote"] == after["summary"]["wrong_size"] == []
    assert (volume / "models/loras/extra.safetensors").exists()


def test_sync_can_be_narrowed_and_rehearsed(desk: Desk):
    """--dry-run does nothing, --only takes models or files, --prune removes what nothing refers to."""
    extra = desk.studio.volume / "models/loras/extra.safetensors"
    extra.parent.mkdir(parents=True)
    extra.write_bytes(b"extra")

    rehearsed = desk.run("sync", dry_run=True)
    named = desk.run("sync", dry_run=True, only="sdxl-vae-fp16-fix")
    narrowed = desk.run("sync", yes=True, only=UNET)
    pruned = desk.run("sync", yes=True, only="models/loras/extra.safetensors", prune=True)
    with pytest.raises(InvalidArgument, match="Not in this plan: nothing"):
        desk.run("sync", yes=True, only="nothing")

    assert rehearsed["done"] == []
    assert [action["kind"] for action in named["plan"]["actions"]] == ["fetch"]  # an optional one
    assert [(done["path"], done["status"]) for done in narrowed["done"]] == [(UNET, "fetched")]
    assert [(done["path"], done["status"]) for done in pruned["done"]] == [
        ("models/loras/extra.safetensors", "removed")
    ]
    assert not extra.exists()


def test_nobody_to_ask(emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Without --yes and without a terminal nothing is done."""
    desk = Desk(emu, tmp_path, capsys, "s3")

    with pytest.raises(ConfigError, match="Pass --yes to confirm"):
        desk.run("sync")


def test_a_source_that_is_gone_is_one_sentence(emu: Emulator, tmp_path: Path, capsys: Any):
    """Over S3 the failure keeps its type."""
    desk = Desk(emu, tmp_path, capsys, "s3")
    registry = tmp_path / "registry.yaml"
    registry.write_text(
        "required: {gone: {files: [{path: vae/x.bin, source: 'hf:openai/whisper-tiny:gone.bin'}]}}"
    )

    with pytest.raises(SourceMissing, match="on Hugging Face has no file 'gone"):
        desk.run("sync", yes=True, registry=str(registry))


def test_json_tells_what_was_done_beside_a_failure(emu: Emulator, tmp_path: Path, capsys: Any):
    """When one of two files fails, stdout is still one JSON value that names both."""
    desk = Desk(emu, tmp_path, capsys, "s3")
    registry = tmp_path / "registry.yaml"
    registry.write_text(
        "required: {two: {files: ["
        "{path: vae/gone.bin, source: 'hf:openai/whisper-tiny:gone.bin'}, "
        "{path: vae/here.bin, source: 'hf:openai/whisper-tiny:model.safetensors'}]}}"
    )

    with pytest.raises(PartialApply, match="1 of 2 actions failed"):
        desk.run("sync", yes=True, registry=str(registry))
    output = json.loads(capsys.readouterr().out)

    assert [(done["path"], done["status"]) for done in output["done"]] == [
        ("models/vae/gone.bin", "failed"),
        ("models/vae/here.bin", "fetched"),
    ]


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_second_fetch(emu: Emulator, tmp_path: Path, capsys: Any):
    """Over the job transport: kill -9 of the worker in the middle; the job is run again and goes on."""
    desk = Desk(emu, tmp_path, capsys, "job")
    served = serve(emu, size=40 << 20)
    registry = tmp_path / "registry.yaml"
    registry.write_text(
        f"required: {{big: {{files: [{{path: checkpoints/a.bin, source: '{served.source}', "
        f"sha256: '{served.sha256}'}}]}}}}"
    )
    emu.fault("/hub/files/*", method="GET", skip=3, delay_s=HANG_S)
    journal = desk.studio.volume / f"{partial_path(PATH)}.journal"

    def kill() -> None:
        until(lambda: kept(journal))
        pid = desk.studio.worker_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))
        emu.advance(60)  # by then RunPod misses its pings

    killer = threading.Thread(target=kill)
    killer.start()
    synced = desk.run("sync", yes=True, registry=str(registry))
    killer.join()

    assert hashlib.sha256((desk.studio.volume / PATH).read_bytes()).hexdigest() == served.sha256
    assert [done["status"] for done in synced["done"]] == ["fetched"]
    assert synced["done"][0]["fetched_bytes"] < served.size_bytes


def test_a_failure_is_one_line_and_a_code(capsys: pytest.CaptureFixture[str]):
    """What a task prints for an error: no traceback, and the exit code of its kind."""
    code = Console().fail(SourceMissing("It is not there.", hint="Put it there."))
    out, err = capsys.readouterr()

    assert (code, out, err) == (5, "", "error: It is not there. Put it there.\n")
