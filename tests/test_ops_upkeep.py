"""Commands beside the daily four: add, lock, check-workflow, remove, prune, cost, the page, and Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from backend.errors import InvalidArgument, SourceMissing
from backend.settings import Settings
from ops.commands import models as commands_models
from ops.commands import registry as commands_registry
from ops.commands import upkeep as commands_upkeep
from ops.layout import claims_folder, record_path
from ops.registry import load
from tests.emulation import Emulator
from tests.ops_places import serve, settings_of

ROOT = Path(__file__).parents[1]
DEMO = str(ROOT / "examples" / "demo" / "models-registry.yaml")
SVD = "hf:stabilityai/stable-video-diffusion-img2vid-xt-1-1:svd_xt_1_1.safetensors"
HEAD = """\
# Ours.
required:
  sonic: # the pack
    files:
      - {path: sonic/unet.pth, source: 'hf:LeonJoe13/Sonic:Sonic/unet.pth'}

# Things that are nice to have.
optional: {}
"""


class Desk:
    """Somebody with a volume, a registry of their own, and commands."""

    def __init__(self, emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        volume = {"name": "models", "size": 10, "dataCenter": "EU-RO-1"}
        self.volume_id = str(emu.rest("POST", "/network-volumes", volume).json()["id"])
        self.volume = emu.volume_dir(self.volume_id)
        self.registry = tmp_path / "models-registry.yaml"
        self.registry.write_text(HEAD)
        self.models = tmp_path / "models"
        self.models.mkdir()
        self.env = {
            "RUNPOD_VOLUME_ID": self.volume_id,
            "COMFYFORM_STATE_DIR": str(tmp_path / "state"),
            "COMFYUI_MODELS_DIR": str(self.models),
        }
        self.settings: Settings = settings_of(emu, **self.env)
        self._capsys = capsys

    def run(self, command: Any, *arguments: str, **options: Any) -> Any:
        """Run a command with --json and give what it printed."""
        self._capsys.readouterr()
        assert command(*arguments, json=True, settings=self.settings, **options) == 0
        return json.loads(self._capsys.readouterr().out)


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

    with pytest.raises(InvalidArgument, match="Say it with --path"):
        desk.run(commands_registry.add, SVD, registry=str(desk.registry))
    with pytest.raises(InvalidArgument, match="has a model 'sonic' already"):
        desk.run(commands_registry.add, SVD, path="vae/x.pt", name="sonic", registry=str(desk.registry))
    with pytest.raises(InvalidArgument, match=r"sonic/unet.pth is in the registry already, as sonic"):
        desk.run(commands_registry.add, SVD, path="sonic/unet.pth", name="two", registry=str(desk.registry))
    with pytest.raises(InvalidArgument, match="'a: b' is not a model's name"):
        desk.run(commands_registry.add, SVD, path="vae/x.pt", name="a: b", registry=str(desk.registry))
    with pytest.raises(SourceMissing):
        desk.run(commands_registry.add, "hf:openai/whisper-tiny:no.bin", registry=str(desk.registry))

    assert desk.registry.read_bytes() == before


def test_lock_says_what_moved(emu: Emulator, desk: Desk):
    """The first time nothing moved; after a change at the source, that is said, with both hashes."""
    first = desk.run(commands_registry.lock, registry=str(desk.registry))
    before = load(desk.registry).files()[0]
    body = {"repo": "LeonJoe13/Sonic", "path": "Sonic/unet.pth", "size_bytes": 5000, "seed": "other"}
    made = emu.control("POST", "/hub/files", body)
    second = desk.run(commands_registry.lock, registry=str(desk.registry))
    after = load(desk.registry).files()[0]

    assert first["moved"] == first["failed"] == []
    assert len(second["moved"]) == 1
    assert f"size {before.size_bytes} → 5000" in second["moved"][0]
    assert (after.sha256, after.size_bytes) == (made["sha256"], 5000)
    assert made["commit"] in after.source


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


@pytest.mark.parametrize(
    ("source", "fault", "said"),
    [
        ("url:{hub}/files/none.bin", None, "the server answered 404"),
        ("civitai:128713", {"status": 200, "body": [1]}, "something that is not an object"),
        ("hf:openai/whisper-tiny:config.json', sha256: '" + "a" * 64, None, "the registry says otherwise of"),
    ],
)
def test_lock_names_what_cannot_be_had(
    emu: Emulator, desk: Desk, source: str, fault: dict[str, Any] | None, said: str
):
    """An address without a file, a service with an odd answer, a pin that its source does not keep."""
    if fault is not None:
        emu.control("POST", "/faults", {"match": {"path": "/civitai/api/v1/*"}, "times": 0} | fault)
    source = source.replace("{hub}", emu.url("hub"))
    desk.registry.write_text(f"optional: {{a: {{files: [{{path: vae/a.pt, source: '{source}'}}]}}}}\n")

    with pytest.raises(SourceMissing, match=r"^1 source is not resolved:\n") as refused:
        desk.run(commands_registry.lock, registry=str(desk.registry))

    assert said in str(refused.value)


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
    with pytest.raises(InvalidArgument, match=f"^{saved}: This is no JSON"):
        desk.run(commands_upkeep.prune, **options)


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
    with pytest.raises(InvalidArgument, match="No file is named"):
        desk.run(commands_upkeep.remove, " , ", yes=True, transport="s3")


def test_cost_is_told_by_model(desk: Desk):
    """Bytes and dollars a month, each and in all."""
    told = desk.run(commands_upkeep.cost, registry=str(ROOT / "models-registry.yaml"))
    sdxl = next(model for model in told["models"] if model["name"] == "sdxl-base")

    assert sdxl == {
        "name": "sdxl-base",
        "size_bytes": 6938078334,
        "unknown_sizes": 0,
        "dollars_per_month": 0.4857,
    }
    assert told["size_bytes"] == sum(model["size_bytes"] for model in told["models"])


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


def interrupt(emu: Emulator, desk: Desk, command: str, method: str, path: str, *, seen: int = 0) -> None:
    """Run a command, press Ctrl-C once a request was asked for, and see it end well."""
    program = [sys.executable, "-m", "invoke", *command.split()]
    process = subprocess.Popen(
        [*program, "--registry", str(desk.registry)],
        cwd=ROOT,
        env={"PATH": "", **emu.env, **desk.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(emu.requests(method, path)) <= seen:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    emu.control("DELETE", "/faults")

    assert process.returncode == 130
    assert err.splitlines()[-1].startswith(("Interrupted.", "Stopped."))
    assert "Traceback" not in out + err


def test_ctrl_c_within_a_lock(emu: Emulator, desk: Desk):
    """Neither a file of this machine that takes minutes to hash nor a slow service is waited for."""
    (desk.models / "loras").mkdir()
    with (desk.models / "loras" / "huge.pt").open("wb") as file:
        file.truncate(1 << 40)
    desk.registry.write_text(HEAD.replace("hf:LeonJoe13/Sonic:Sonic/unet.pth", "local:loras/huge.pt"))
    desk.run(commands_registry.add, SVD, path="vae/x.pt", registry=str(desk.registry))
    emu.control("POST", "/faults", {"match": {"path": "/hub/stabilityai/*"}, "delay_s": 60})
    seen = len(emu.requests("HEAD", "/hub/stabilityai/*"))

    interrupt(emu, desk, "models.lock", "HEAD", "/hub/stabilityai/*", seen=seen)

    assert not desk.registry.with_name("models-registry.lock.yaml").exists()


@pytest.mark.slow
def test_ctrl_c_within_a_prune(emu: Emulator, desk: Desk):
    """What was deleted is gone with its record, the rest is untouched, and the next run deletes it."""
    for number in range(9):
        for path in (f"models/loras/{number}.pt", record_path(f"models/loras/{number}.pt")):
            (desk.volume / path).parent.mkdir(parents=True, exist_ok=True)
            (desk.volume / path).write_bytes(b"x")
    emu.fault("/s3/*models/loras/?.pt", method="DELETE", skip=5, delay_s=2, times=0)
    interrupt(emu, desk, "models.prune --yes --transport s3", "DELETE", "/s3/*/5.pt")
    left = {path.name for path in (desk.volume / "models/loras").iterdir()}
    records = {path.stem for path in (desk.volume / record_path("models/loras/x")).parent.iterdir()}

    pruned = desk.run(commands_upkeep.prune, registry=str(desk.registry), transport="s3", yes=True)

    assert "8.pt" in left  # it is not begun before the sixth is done
    assert records <= left
    assert {Path(done["path"]).name for done in pruned["done"]} == left
    assert [path for path in desk.volume.rglob("*.pt*") if path.is_file()] == []


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_goes_on_later(emu: Emulator, desk: Desk):
    """One Ctrl-C ends a sync in the middle of a file with one line; the next run fetches only the rest.

    Other machines need not wait until this one is taken for dead: its claim says that it rests.
    """
    body = {"repo": "LeonJoe13/Sonic", "path": "Sonic/unet.pth", "size_bytes": 40 << 20}
    emu.control("POST", "/hub/files", body)
    emu.fault("/s3/*unet.pth", method="PUT", delay_s=60, times=0)
    interrupt(emu, desk, "models.sync --yes --transport s3", "PUT", "/s3/*unet.pth")

    (claim,) = (desk.volume / claims_folder("models/sonic/unet.pth")).iterdir()
    assert json.loads(claim.read_bytes())["resting"] is True
    synced = desk.run(commands_models.sync, registry=str(desk.registry), transport="s3", yes=True)
    (done,) = synced["done"]
    # The first part had come whole, 32 MiB, before it was sent.
    assert (done["status"], done["fetched_bytes"] <= 8 << 20) == ("fetched", True)
