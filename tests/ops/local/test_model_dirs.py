"""Where this machine's models are: as set, as a ComfyUI says, or in the usual place."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.errors import ConfigError, SourceMissing
from backend.settings import Settings
from ops.commands import models as commands_models
from ops.commands import registry as commands_registry
from ops.local.model_dirs import LocalModels, local_models
from ops.local.scan import Root
from ops.local.this_machine import Here
from ops.models.source_url import LocalSource
from tests.support.comfyui_program import running_comfyui, safetensors
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.ops_places import put, settings_of, told
from tests.support.small_server import Answer, Seen, serving

NOBODY = "http://127.0.0.1:1"
UNTOLD = "the server at URL does not report its folders as ComfyUI does"


@pytest.fixture
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the usual place of somebody, where nothing is yet."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home/Documents/ComfyUI/models"


@pytest.mark.slow
def test_a_running_comfyui_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Every folder that it reads is scanned, its extra ones too; people are told which, programs are not."""
    extra = tmp_path / "extra.yaml"
    extra.write_text(f"nas:\n  base_path: {tmp_path / 'nas'}\n  is_default: true\n  checkpoints: ckpt\n")
    base = tmp_path / "base"
    put(tmp_path / "nas/ckpt/same.safetensors", safetensors("default"))
    put(base / "models/checkpoints/same.safetensors", safetensors("own"))
    put(base / "models/unregistered/x.pth")
    put(base / "output/checkpoints/merged.safetensors", safetensors())
    state = str(tmp_path / "state")

    with running_comfyui(base, "--extra-model-paths-config", str(extra)) as comfyui:
        settings = Settings(comfyui_url=comfyui.url, comfyform_state_dir=state)
        assert commands_models.scan(json=True, settings=settings) == 0
        out, err = capsys.readouterr()
        Here(settings, print).scan()
        output = capsys.readouterr().out

    found = json.loads(out)
    roots = [tmp_path / "nas/ckpt", base / "models", base / "output/checkpoints"]
    assert err == ""
    assert found["roots"] == [str(root) for root in roots]
    assert [(file["name"], file["architecture"]) for file in found["categories"]["checkpoints"]] == [
        ("merged.safetensors", "stable-diffusion-v1-base"),
        ("same.safetensors", "default"),
    ]
    assert [file["path"] for file in found["categories"]["unregistered"]] == ["models/unregistered/x.pth"]
    assert output == (
        f"This machine's models: {', '.join(found['roots'])} (told by ComfyUI at {comfyui.url}).\n"
    )


def html(_: Seen) -> Answer:
    return Answer(body=b"<!doctype html><title>Models</title>", headers={"content-type": "text/html"})


def error(_: Seen) -> Answer:
    return Answer(500, json.dumps(told(vae=[str(Path.cwd() / "vae")])).encode())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (html, UNTOLD),
        (lambda _: Answer(body=b'{"models": []}'), UNTOLD),
        (lambda _: Answer(body=b"[" * 100_000), UNTOLD),
        (lambda _: Answer(body=b"\xff\xfe"), UNTOLD),
        (error, "the server at URL answered 500 when asked for its folders"),
        (
            lambda _: Answer(302, headers={"location": "/login"}),
            "the server at URL answered 302 when asked for its folders",
        ),
        (lambda _: Answer(body=b"[", length=1000), "ComfyUI at URL did not answer"),
        (lambda _: Answer(body=b" " * (1 << 21)), "the server at URL sends too much or too slowly"),
        (
            lambda _: Answer(body=json.dumps(told(vae=["/no/such/models/vae"])).encode()),
            "ComfyUI at URL reads /no/such/models, which is not a folder on this machine",
        ),
    ],
    ids=["html", "json", "deep", "bytes", "error", "elsewhere", "cut", "endless", "not here"],
)
def test_an_answer_that_is_of_no_use(usual: Path, answer: Callable[[Seen], Answer], message: str):
    """Whatever listens there: the usual place is taken, and it is said why."""
    with serving(answer) as server:
        found = local_models(Settings(comfyui_url=server.url))

    assert [seen.path for seen in server.seen] == ["/experiment/models"]
    assert found.roots == (Root(usual),)
    assert found.how == f"the usual place; {message.replace('URL', server.url)}"


def test_a_server_that_never_answers_is_not_waited_for(usual: Path):
    """After its patience the usual place is taken."""
    over = threading.Event()

    def silent(_: Seen) -> Answer:
        over.wait(HANG_S)
        return Answer(body=json.dumps(told(vae=["/no/models/vae"])).encode())

    with serving(silent) as server:
        found = local_models(Settings(comfyui_url=server.url), patience_s=0.1)
        over.set()

    assert found == LocalModels((Root(usual),), f"the usual place; ComfyUI at {server.url} did not answer")


@pytest.mark.parametrize("host", ["gpu-box", "10.255.255.1", "[2001:db8::1]", "localhost.example.org"])
def test_a_comfyui_of_another_machine_is_not_asked(usual: Path, host: str):
    """Its folders may have the names of some of this machine, which are others."""
    found = local_models(Settings(comfyui_url=f"http://{host}:8188"))

    why = f"the usual place; ComfyUI at http://{host}:8188 is on another machine"
    assert found == LocalModels((Root(usual),), why)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "HOSTNAME"])
def test_this_machine_has_several_names(usual: Path, host: str):
    """By each of them it is asked; nobody listens there."""
    url = f"http://{host.replace('HOSTNAME', socket.gethostname())}:1"

    assert local_models(Settings(comfyui_url=url)).how == (
        f"the usual place; ComfyUI at {url} cannot be reached"
    )


def test_a_folder_that_is_set_is_not_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """COMFYUI_MODELS_DIR wins, then --models-dir over it, and the ComfyUI is left alone."""
    put(tmp_path / "set/vae/a.pt")
    put(tmp_path / "option/vae/b.pt")
    extra = put(tmp_path / "extra.yaml", b"more: {base_path: ., vae: more}")
    with serving(lambda _: Answer(body=json.dumps(told(vae=[str(tmp_path / "vae")])).encode())) as server:
        settings = Settings(
            comfyui_url=server.url,
            comfyui_models_dir=str(tmp_path / "set"),
            comfyform_state_dir=str(tmp_path / "state"),
        )
        assert commands_models.scan(json=True, settings=settings) == 0
        by_setting = json.loads(capsys.readouterr().out)["roots"]
        option = str(tmp_path / "option")
        assert commands_models.scan(models_dir=option, extra=str(extra), json=True, settings=settings) == 0
        by_option = json.loads(capsys.readouterr().out)["roots"]
        here = local_models(settings)

    assert by_setting == [str(tmp_path / "set")]
    assert by_option == [option, str(tmp_path / "more")]
    assert str(here) == f"{tmp_path / 'set'} (COMFYUI_MODELS_DIR)"
    assert server.seen == []


def test_no_models_folder_names_all_three_ways(usual: Path, tmp_path: Path):
    """Set the variable, start ComfyUI, or name the folder; comparing goes on without this machine."""
    heard: list[str] = []
    here = Here(Settings(comfyui_url=NOBODY, comfyform_state_dir=str(tmp_path)), heard.append)

    with pytest.raises(ConfigError) as caught:
        here.scan()

    sentence = f"Models folder not found: {usual} (the usual place; ComfyUI at {NOBODY} cannot be reached)."
    assert str(caught.value) == (
        f"{sentence} Set COMFYUI_MODELS_DIR to your ComfyUI's models folder, or leave it unset and start "
        "ComfyUI, which reports its folders, or pass the folder: inv models.scan --models-dir FOLDER"
    )
    assert here.inventory() is None
    assert heard == [sentence]


def test_the_usual_place_is_used_when_nobody_answers(usual: Path, tmp_path: Path):
    """It is scanned, and it is said that it was chosen for want of an answer."""
    put(usual / "vae/a.pt")
    heard: list[str] = []
    here = Here(Settings(comfyui_url=NOBODY, comfyform_state_dir=str(tmp_path)), heard.append)

    assert [file.path for file in here.known().files] == ["models/vae/a.pt"]
    assert heard == [
        f"This machine's models: {usual} (the usual place; ComfyUI at {NOBODY} cannot be reached)."
    ]


@pytest.mark.slow
def test_a_file_of_any_folder_goes_up(emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What ComfyUI has merged into its outputs is added, locked, compared and sent as local: names it."""
    volume = {"name": "models", "size": 10, "dataCenter": "EU-RO-1"}
    volume_id = str(emu.rest("POST", "/network-volumes", volume).json()["id"])
    merged = put(emu.root / "comfyui/output/checkpoints/merged.safetensors", safetensors())
    settings = settings_of(emu, RUNPOD_VOLUME_ID=volume_id, COMFYFORM_STATE_DIR=str(tmp_path / "state"))
    registry = str(tmp_path / "registry.yaml")

    added = commands_registry.add(
        "local:checkpoints/merged.safetensors", required=True, registry=registry, settings=settings
    )
    locked = commands_registry.lock(registry=registry, settings=settings)
    capsys.readouterr()
    synced = commands_models.sync(registry=registry, yes=True, transport="s3", json=True, settings=settings)
    plan = json.loads(capsys.readouterr().out)["plan"]

    assert (added, locked, synced) == (0, 0, 0)
    sent = emu.volume_dir(volume_id) / "models/checkpoints/merged.safetensors"
    assert sent.read_bytes() == merged.read_bytes()
    assert [(action["kind"], action["here"], action["sha256"]) for action in plan["actions"]] == [
        ("upload", "right", hashlib.sha256(merged.read_bytes()).hexdigest())
    ]


def test_a_local_file_that_no_folder_has(tmp_path: Path):
    """The error names the folders, how they were found, and the setting."""
    found = LocalModels((Root(tmp_path), Root(tmp_path / "more", "vae")), "COMFYUI_MODELS_DIR")

    with pytest.raises(SourceMissing) as caught:
        found.need(LocalSource("vae/none.pt"), path="models/vae/none.pt")

    assert caught.value.path == "models/vae/none.pt"
    assert str(caught.value) == (
        f"local:vae/none.pt is not among this machine's models: {tmp_path}, {tmp_path / 'more'} "
        "(COMFYUI_MODELS_DIR). Set COMFYUI_MODELS_DIR to the folder that has it, or correct the registry."
    )
