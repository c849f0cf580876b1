"""The stack on the real Pulumi engine, against the emulator: the whole life, interruptions, wrong input."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ConfigError
from infra.cli import commands
from infra.engine.stacks import Stack, StackLocked
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator, until
from tests.support.pulumi_project import (
    REGISTRY,
    STACK,
    Project,
    arguments,
    kill,
    logical_name,
    project,
    providers,
)

pytestmark = pytest.mark.slow

EVERYTHING = [
    "comfy-ops",
    "comfy-ops",
    "comfy-volume",
    "comfy-worker",
    "comfy-worker",
]
FILES = ["models/whisper/config.json", "models/whisper/model.safetensors"]


@pytest.fixture
def infra(emu: Emulator, tmp_path: Path) -> Iterator[Project]:
    with project(tmp_path / "project", emu) as created:
        yield created


def owned(emu: Emulator) -> list[str]:
    """Return the logical names of everything on the emulator that a stack makes."""
    state = emu.state()
    names = [
        each["name"] for kind in ("volumes", "templates", "endpoints", "registries") for each in state[kind]
    ]
    return sorted(map(logical_name, names))


def on_volume(emu: Emulator, volume_id: str) -> list[str]:
    root = emu.volume_dir(volume_id)
    return sorted(str(path.relative_to(root)) for path in (root / "models").rglob("*") if path.is_file())


def only_endpoint(emu: Emulator, name: str) -> dict[str, Any]:
    (found,) = [each for each in emu.state()["endpoints"] if logical_name(each["name"]) == name]
    return dict(found)


def test_up_drift_refresh_mend_destroy(infra: Project, emu: Emulator) -> None:
    """A stack comes up with verified models, changes nothing twice, sees and mends drift, leaves nothing."""
    infra.up()
    outputs = infra.outputs()
    assert owned(emu) == EVERYTHING
    assert on_volume(emu, outputs["volume_id"]) == FILES
    assert outputs["endpoint_id"] == outputs["backend_env"]["RUNPOD_ENDPOINT_ID"]

    before = emu.state()
    infra.up("--expect-no-changes")
    assert before["endpoints"] == emu.state()["endpoints"]
    assert before["templates"] == emu.state()["templates"]

    (emu.volume_dir(outputs["volume_id"]) / FILES[1]).unlink()
    emu.rest("PATCH", f"/serverless/{outputs['endpoint_id']}", {"workers": {"max": 5}})
    jobs = len(emu.requests("POST", "/jobs/v2/*/run"))
    looked = infra.pulumi(
        "refresh", "--preview-only", "--diff", "--expect-no-changes", "--run-program", ok=False
    )
    assert looked.returncode == 7
    assert re.search(r"workers_max *: 2 => 5", looked.stdout)
    assert len(emu.requests("POST", "/jobs/v2/*/run")) - jobs == 1  # one inventory for all models
    infra.pulumi("refresh", "--yes", "--skip-preview")
    assert FILES[1] not in infra.resources()

    infra.up()
    assert on_volume(emu, outputs["volume_id"]) == FILES
    assert only_endpoint(emu, "comfy-worker")["workers"]["max"] == 2
    assert outputs["endpoint_id"] == infra.outputs()["endpoint_id"]

    infra.pulumi("destroy", "--yes", "--skip-preview")
    assert owned(emu) == []


def test_a_damaged_model_is_drift_and_is_mended(infra: Project, emu: Emulator) -> None:
    """A file whose bytes are not those that were verified shows as its state, and the next up fetches it."""
    infra.up()
    path = emu.volume_dir(infra.outputs()["volume_id"]) / FILES[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])

    seen = infra.pulumi("refresh", "--yes", "--skip-preview", "--diff").stdout
    assert "damaged: its size changed" in seen

    infra.up()
    assert whole == path.read_bytes()
    infra.up("--expect-no-changes")


def test_template_edits_reach_the_endpoint_in_the_same_up(infra: Project, emu: Emulator) -> None:
    """RunPod's endpoints are snapshots of their template; ours follow it, and nothing is replaced."""
    infra.up()
    before = only_endpoint(emu, "comfy-worker")

    infra.configure(worker_image="echo", worker_disk_gb="30")
    infra.up()

    after = only_endpoint(emu, "comfy-worker")
    assert (before["id"], "echo", 30) == (after["id"], after["image"], after["disk"])
    infra.up("--expect-no-changes")


def test_killed_while_a_model_comes_then_up_completes_it(infra: Project, emu: Emulator) -> None:
    """After kill -9 no provider lives on; the dead lock is cleared, the work joined, each is there once."""
    emu.fault("*/model.safetensors", method="GET", delay_s=1.5)
    killed = infra.start("up", "--yes", "--skip-preview")
    until(lambda: emu.requests("GET", "*/model.safetensors"))
    kill(killed)
    until(lambda: not providers(infra.root))

    lines: list[str] = []
    stack = Stack.at(STACK, project=infra.root, environ=infra.env, say=lines.append)
    stack.make_ready()
    infra.up()

    assert [word for line in lines for word in ("gone", "cut off") if word in line] == ["gone", "cut off"]
    assert owned(emu) == EVERYTHING
    volume = infra.outputs()["volume_id"]
    assert on_volume(emu, volume) == FILES
    assert len(emu.requests("GET", "*/model.safetensors")) == 1
    assert stack.pending() == 0
    infra.pulumi("destroy", "--yes", "--skip-preview")
    assert owned(emu) == []


def test_a_stack_in_use_is_left_alone(infra: Project, emu: Emulator) -> None:
    """A lock whose process runs is respected, and the message names it."""
    emu.fault("/rest/v2/network-volumes", method="POST", delay_s=3)
    busy = infra.start("up", "--yes", "--skip-preview")
    until(lambda: emu.requests("POST", "/rest/v2/network-volumes"))
    stack = Stack.at(STACK, project=infra.root, environ=infra.env, say=lambda _: None)

    with pytest.raises(StackLocked, match=f"process {busy.pid} on"):
        stack.make_ready()

    busy.communicate(timeout=HANG_S)
    assert busy.returncode == 0


def test_one_ctrl_c_ends_a_wait_at_once(infra: Project, emu: Emulator) -> None:
    """SIGINT ends a long provisioning within moments, leaves no lock, no pending work and no process."""
    emu.fault("*/model.safetensors", method="GET", delay_s=20)
    running = infra.start("up", "--yes", "--skip-preview")
    until(lambda: emu.requests("GET", "*/model.safetensors"))
    os.kill(running.pid, signal.SIGINT)

    output, _ = running.communicate(timeout=HANG_S)
    assert running.returncode == 1
    assert "Traceback" not in output
    assert "run `pulumi up` again" in output
    stack = Stack.at(STACK, project=infra.root, environ=infra.env, say=lambda _: None)
    assert list(stack.locks()) == []
    assert stack.pending() == 0
    until(lambda: not providers(infra.root))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("config.json\n", "nowhere.json\n", "nowhere.json"),
        ("config.json\n", f'config.json\n        sha256: "{"0" * 64}"\n', "0" * 12),
    ],
    ids=["missing source", "wrong sha256"],
)
def test_a_model_that_cannot_be_had_is_one_line(
    infra: Project, emu: Emulator, old: str, new: str, reason: str
) -> None:
    """A missing source, or other bytes than promised, end in one line on the model, not in a traceback."""
    text = REGISTRY.replace(f":{old}", f":{new}")
    assert text != REGISTRY
    (infra.root / "models-registry.yaml").write_text(text)

    done = infra.up(ok=False)

    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in output
    lines = {line.strip() for line in output.splitlines() if line.strip().startswith("error: comfyform: ")}
    assert len(lines) == 1
    assert reason in lines.pop()
    assert "comfy-worker" not in [name for name in owned(emu) if name == "comfy-worker"][1:]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("data_center", "EU-R0-1", "Did you mean EU-RO-1? Network volumes can be in "),
        ("gpu_pools", '["ADA_25"]', "no GPU pool 'ADA_25'"),
        ("budget_usd_per_hour", "1", "above its budget"),
        ("worker_quota", "2", "the quota is 2"),
        ("workers_mux", "1", "did you mean comfyform:workers_max?"),
    ],
)
def test_a_stack_that_cannot_be_is_refused_at_preview(
    infra: Project, emu: Emulator, key: str, value: str, reason: str
) -> None:
    """Before anything is made: one clear sentence, no traceback, nothing created."""
    if value.startswith("["):
        infra.pulumi("config", "set", "--path", f"comfyform:{key}[0]", json.loads(value)[0])
    else:
        infra.configure(**{key: value})

    done = infra.pulumi("preview", ok=False)

    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert reason in output
    assert "Traceback" not in output
    assert owned(emu) == []


def test_one_preview_reports_the_problems_of_registry_hardware_quota_and_budget(infra: Project) -> None:
    """Whoever has several mistakes in a stack sees them all at once, and nothing is created."""
    infra.configure(ops_cpu="cpu9", worker_quota="2", budget_usd_per_hour="1")
    (infra.root / "models-registry.yaml").write_text("requird: {}\n")

    done = infra.pulumi("preview", ok=False)

    output = done.stdout + done.stderr
    assert done.returncode == 1
    for part in ("This stack has 4 problems", "requird", "'cpu9'", "the quota is 2", "above its budget"):
        assert part in output


def test_a_protected_volume_is_neither_destroyed_nor_replaced(infra: Project, emu: Emulator) -> None:
    """With protect_volume, both are refused in the preview, before anything is deleted."""
    infra.configure(protect_volume="true")
    (infra.root / "models-registry.yaml").write_text("required: {}\n")
    infra.up()

    done = infra.pulumi("destroy", "--yes", ok=False)

    assert done.returncode != 0
    assert owned(emu) == EVERYTHING
    infra.configure(data_center="EU-CZ-1")
    moved = infra.pulumi("preview", ok=False)
    assert moved.returncode != 0
    assert "protect" in moved.stdout


def test_secrets_stay_out_of_state_output_and_arguments(emu: Emulator, tmp_path: Path) -> None:
    """Marked secrets and the key never show in state, in what Pulumi prints, or in a process's arguments."""
    marks = {name: f"MARK{hashlib.sha256(name.encode()).hexdigest()[:24]}" for name in ("hf", "user", "word")}
    with project(tmp_path / "project", emu, extra={"PULUMI_CONFIG_PASSPHRASE": "open"}) as infra:
        (infra.root / "models-registry.yaml").write_text("required: {}\n")
        for key, mark in (("hf_token", "hf"), ("registry_username", "user"), ("registry_password", "word")):
            infra.pulumi("config", "set", "--secret", f"comfyform:{key}", marks[mark])
        run, seen = infra.start("up", "--yes", "--diff"), set[str]()

        def ended() -> bool:
            seen.update(arguments(infra.root))
            return run.poll() is not None

        until(ended)
        assert any("pulumi.dynamic" in each for each in seen)
        output = run.communicate()[0] + "".join(seen)
        output += infra.pulumi("refresh", "--yes", "--diff").stdout
        output += infra.pulumi("stack", "export").stdout + infra.state_text()
        infra.up("--expect-no-changes")

    assert [mark for mark in (*marks.values(), emu.env["RUNPOD_API_KEY"]) if mark in output] == []
    assert {marks["hf"]} == {each["env"]["HF_TOKEN"] for each in emu.state()["endpoints"]}


def test_the_commands_speak_and_end_with_codes(
    infra: Project, emu: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """stack.up, outputs, env, cost, orphans and down work through plain calls."""
    for name, value in infra.env.items():
        monkeypatch.setenv(name, value)
    (infra.root / "models-registry.yaml").write_text("required: {}\n")

    assert commands.up(yes=True, project=infra.root) == 0
    capsys.readouterr()
    assert commands.env(format="json", project=infra.root) == 0
    variables = json.loads(capsys.readouterr().out)
    assert infra.outputs()["backend_env"] == variables
    assert commands.cost(json=True, project=infra.root) == 0
    cost = json.loads(capsys.readouterr().out)
    assert infra.outputs()["cost"]["usd_per_hour_max"] == cost["usd_per_hour_max"]
    assert commands.orphans(json=True, project=infra.root) == 0
    assert json.loads(capsys.readouterr().out) == []
    lost = emu.rest("POST", "/templates", {"name": f"comfyform-{STACK}-lost", "image": "echo"}).json()
    assert commands.orphans(json=True, project=infra.root) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"kind": "template", "id": lost["id"], "name": lost["name"]}
    ]
    assert commands.down(yes=True, project=infra.root) == 0


def test_a_stack_that_is_not_there_is_not_made_by_looking(
    infra: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped name is an error that lists the stacks; only up and preview make one."""
    for name, value in infra.env.items():
        monkeypatch.setenv(name, value)

    for look in (commands.outputs, commands.env, commands.down, commands.refresh):
        with pytest.raises(ConfigError, match="Stack 'tset' of project 'comfyform' does not exist"):
            look(stack="tset", project=infra.root)
    assert Stack.at(project=infra.root, environ=infra.env).names() == [STACK]
