"""An up that RunPod answers badly, or that left a broken state: afterwards there is one of everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.stacks import Stack
from tests.emulation import Emulator, until
from tests.pulumi_project import STACK, Project, project, providers
from tests.test_infra_engine import EVERYTHING, FILES, on_volume, owned

pytestmark = pytest.mark.slow


def ready(infra: Project) -> Stack:
    """Do what `inv stack.up` does before it runs the CLI."""
    # Those that were at work have ended; one that was never asked anything waits for ever, as Pulumi made it.
    until(lambda: len(providers(infra.root)) <= 1)
    stack = Stack.at(STACK, project=infra.root, environ=infra.env, say=lambda _: None).opened()
    stack.make_ready()
    return stack


FAULTS: list[dict[str, Any]] = [
    {"path": "/rest/v2/catalog/gpus", "status": 500, "body": {}},
    {"path": "/rest/v2/serverless", "method": "GET", "cut": "before"},
    {"path": "/rest/v2/network-volumes", "method": "GET", "status": 502, "body": "<html>"},
    {"path": "/rest/v2/network-volumes", "method": "POST", "cut": "after"},
    {
        "path": "/rest/v2/templates",
        "method": "POST",
        "status": 429,
        "headers": {"Retry-After": "1"},
        "body": {},
    },
    {"path": "/rest/v2/templates", "method": "GET", "delay_s": 1.0},
    {"path": "/rest/v2/serverless", "method": "POST", "status": 429, "body": {}},
    {"path": "/jobs/v2/*/run", "status": 429, "body": {}},
    {"path": "/jobs/v2/*/status/*", "cut": "before"},
]


def test_an_up_goes_on_through_passing_failures(emu: Emulator, tmp_path: Path) -> None:
    """Errors, lost answers, rate limits and stalls on the way: one up, one of everything."""
    with project(tmp_path / "project", emu) as infra:
        for fault in FAULTS:
            emu.fault(**fault)

        infra.up()

        assert owned(emu) == EVERYTHING


def test_a_failure_that_stays_is_one_line_that_names_the_call(emu: Emulator, tmp_path: Path) -> None:
    """RunPod refuses for good: its words, on the resource, with what was asked; the next up goes on."""
    with project(tmp_path / "project", emu) as infra:
        emu.fault(
            "/rest/v2/serverless",
            method="POST",
            times=1,
            status=400,
            body={"title": "Bad Request", "status": 400, "detail": "out of luck today"},
        )
        done = infra.up(ok=False)

        said = done.stdout + done.stderr
        assert done.returncode == 1
        assert "Traceback" not in said
        assert f"Create endpoint 'comfyform-{STACK}-comfy-ops'" in said
        assert "out of luck today" in said
        infra.up()
        assert owned(emu) == EVERYTHING


def test_a_volume_that_moves_takes_its_models_along(emu: Emulator, tmp_path: Path) -> None:
    """The new volume is filled, both endpoints are on it, the preview said so, and the old one is gone."""
    with project(tmp_path / "project", emu) as infra:
        infra.up()
        before = infra.outputs()
        infra.configure(data_center="EU-CZ-1")
        steps = json.loads(infra.pulumi("preview", "--json").stdout)["steps"]
        planned = {step["urn"].rpartition("::")[2]: step["op"] for step in steps if step["op"] != "same"}

        infra.up()

        after = infra.outputs()
        assert planned["comfy-volume"].endswith("replace")
        assert (planned["comfy-ops"], planned["comfy-worker"]) == ("update", "update")
        assert owned(emu) == EVERYTHING
        assert on_volume(emu, after["volume_id"]) == FILES
        assert after["volume_id"] != before["volume_id"]
        assert after["endpoint_id"] == before["endpoint_id"]
        assert [each["networkVolumes"] for each in emu.state()["endpoints"]] == [[after["volume_id"]]] * 2
        infra.up("--expect-no-changes")


def test_a_state_that_was_cut_off_is_mended(emu: Emulator, tmp_path: Path) -> None:
    """A kill in the middle of a checkpoint write stops every pulumi command; opening the stack mends it."""
    with project(tmp_path / "project", emu) as infra:
        (infra.root / "models-registry.yaml").write_text("required: {}\n")
        infra.up()
        folder = infra.root / "pulumi" / "stacks" / ".pulumi" / "stacks" / "comfyform"
        for name in (f"{STACK}.json.attrs", f"{STACK}.json"):
            (folder / name).write_bytes(b"")
        assert infra.pulumi("stack", "export", ok=False).returncode == 1

        ready(infra)
        infra.up()

        assert owned(emu) == EVERYTHING
        infra.up("--expect-no-changes")
