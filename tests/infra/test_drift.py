"""Drift that other reads depend on: a refresh records what is gone, models stay known, one up repairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.infra.test_engine import EVERYTHING, FILES, on_volume, owned
from tests.support.emulation import Emulator
from tests.support.pulumi_project import REGISTRY, Project, project

pytestmark = pytest.mark.slow


def delete(emu: Emulator, path: str) -> None:
    """Delete an object as RunPod's console would."""
    assert emu.rest("DELETE", path).status_code == 204


def ops_endpoint_gone(emu: Emulator, outputs: dict[str, Any]) -> None:
    delete(emu, f"/serverless/{outputs['ops_endpoint_id']}")


def both_endpoints_gone(emu: Emulator, outputs: dict[str, Any]) -> None:
    ops_endpoint_gone(emu, outputs)
    delete(emu, f"/serverless/{outputs['endpoint_id']}")


def ops_endpoint_and_template_gone(emu: Emulator, outputs: dict[str, Any]) -> None:
    ops_endpoint_gone(emu, outputs)
    delete(emu, f"/templates/{outputs['template_ids']['ops']}")


def volume_taken_away(emu: Emulator, outputs: dict[str, Any]) -> None:
    edited = emu.rest("PATCH", f"/serverless/{outputs['ops_endpoint_id']}", {"networkVolumes": []})
    assert edited.status_code == 200, edited.text


def no_ops_workers(emu: Emulator, outputs: dict[str, Any]) -> None:
    edited = emu.rest("PATCH", f"/serverless/{outputs['ops_endpoint_id']}", {"workers": {"max": 0}})
    assert edited.status_code == 200, edited.text


KEPT = "its models keep their last known state"
GONE = {
    ops_endpoint_and_template_gone: ["comfy-ops", "comfy-ops"],
    both_endpoints_gone: ["comfy-ops", "comfy-worker"],
    volume_taken_away: [],
    no_ops_workers: [],
}


def gone_from_state(infra: Project, before: list[str]) -> list[str]:
    """Return the logical names that a refresh has taken out of the state."""
    return sorted(urn.rpartition("::")[2] for urn in set(before) - set(infra.urns()))


@pytest.mark.parametrize(
    ("drift", "at_once"),
    [
        (ops_endpoint_and_template_gone, False),
        (both_endpoints_gone, True),
        (volume_taken_away, False),
        (no_ops_workers, False),
    ],
)
def test_what_the_models_need_has_drifted(emu: Emulator, tmp_path: Path, drift: Any, at_once: bool) -> None:
    """Refresh records what is gone, models keep their state with a warning, and one up repairs."""
    with project(tmp_path / "project", emu) as infra:
        infra.up()
        outputs, before = infra.outputs(), infra.urns()
        drift(emu, outputs)

        if at_once:
            done = infra.pulumi("up", "--yes", "--refresh")
        else:
            done = infra.pulumi("refresh", "--yes")
            assert gone_from_state(infra, before) == GONE[drift]
            assert {infra.resources()[path]["outputs"]["state"] for path in FILES} == {"verified"}
            infra.up()

        assert KEPT in done.stdout
        assert "Check RUNPOD_OPS_ENDPOINT_ID" not in done.stdout + done.stderr
        assert owned(emu) == EVERYTHING
        assert on_volume(emu, infra.outputs()["volume_id"]) == FILES
        infra.up("--expect-no-changes")


def test_the_volume_is_gone(emu: Emulator, tmp_path: Path) -> None:
    """The volume and its models leave the state, and one up makes the volume and fetches the models again."""
    emu.set(volume_delete_checks_use=False)
    with project(tmp_path / "project", emu) as infra:
        infra.up()
        delete(emu, f"/network-volumes/{infra.outputs()['volume_id']}")

        before = infra.urns()
        infra.pulumi("refresh", "--yes")
        assert gone_from_state(infra, before) == sorted([*FILES, "comfy-volume"])

        infra.up()
        assert owned(emu) == EVERYTHING
        assert on_volume(emu, infra.outputs()["volume_id"]) == FILES
        infra.up("--expect-no-changes")


def test_a_new_model_without_an_ops_endpoint_says_what_to_run(emu: Emulator, tmp_path: Path) -> None:
    """The sentence speaks of the stack, and the command in it repairs."""
    with project(tmp_path / "project", emu) as infra:
        first, second = REGISTRY.split("      - path: whisper/model", 1)
        (infra.root / "models-registry.yaml").write_text(first + "optional: {}\n")
        infra.up()
        ops_endpoint_gone(emu, infra.outputs())
        (infra.root / "models-registry.yaml").write_text(f"{first}      - path: whisper/model{second}")

        done = infra.up(ok=False)

        assert done.returncode == 1
        assert "of this stack is gone: `pulumi up --refresh` detects that and creates it again" in done.stdout
        assert "Check RUNPOD_OPS_ENDPOINT_ID" not in done.stdout + done.stderr
        infra.pulumi("up", "--yes", "--refresh")
        assert on_volume(emu, infra.outputs()["volume_id"]) == FILES
