"""Taking over what exists: judged at preview, not renamed, kept by destroy; on the real engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.cli import commands
from infra.naming import endpoint_urn
from tests.infra.test_engine import EVERYTHING, owned
from tests.support.emulation import Emulator
from tests.support.pulumi_project import STACK, Project, project

pytestmark = pytest.mark.slow

KINDS = ("volumes", "templates", "endpoints", "registries")


@pytest.fixture
def infra(emu: Emulator, tmp_path: Path) -> Iterator[Project]:
    with project(tmp_path / "project", emu) as created:
        (created.root / "models-registry.yaml").write_text("required: {}\n")
        yield created


def bodies(emu: Emulator) -> dict[str, Any]:
    """Return what RunPod shows of everything, by id."""
    state = emu.state()
    return {each["id"]: each for kind in KINDS for each in state[kind]}


def console_volume(emu: Emulator, **values: Any) -> str:
    body = {"name": "mine", "size": 50, "dataCenter": "EU-RO-1", **values}
    return str(emu.rest("POST", "/network-volumes", body).json()["id"])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"volume_gb": "40"}, "the volume has 50 GB and RunPod only grows volumes"),
        ({"data_center": "EU-CZ-1"}, "has 'EU-RO-1', not 'EU-CZ-1': a network volume cannot move"),
        ({"adopt_volume": "nosuch"}, "network volume 'nosuch' was not found at RunPod; the account has"),
        ({"adopt_worker_endpoint": "nosuch"}, "endpoint 'nosuch' was not found at RunPod"),
        ({"adopt_worker_template": "nosuch"}, "template 'nosuch' was not found at RunPod"),
        ({"adopt_registry_credential": "nosuch"}, "registry credential 'nosuch' was not found at RunPod"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else "",
)
def test_what_does_not_fit_is_refused_at_preview(
    infra: Project, emu: Emulator, values: dict[str, str], reason: str
) -> None:
    """A wanted size, place or id that the object does not have: said before anything is touched."""
    infra.configure(**{"volume_gb": "50", "adopt_volume": console_volume(emu), **values})
    before = bodies(emu)

    done = infra.pulumi("preview", ok=False)

    assert done.returncode == 1
    assert reason in done.stdout
    assert "Traceback" not in done.stdout
    assert infra.up(ok=False).returncode == 1
    remaining = {id_: body for id_, body in bodies(emu).items() if id_ in before}
    assert remaining == before


def test_the_life_of_an_adopted_volume(infra: Project, emu: Emulator) -> None:
    """The preview says what is taken over and changed; it keeps its name; destroy keeps it unless told."""
    id_ = console_volume(emu)
    infra.configure(adopt_volume=id_, volume_gb="60")

    output = infra.pulumi("preview").stdout
    assert f"network volume {id_} ('mine') is taken over; changes: size_gb 50 → 60" in output
    assert bodies(emu)[id_]["size"] == 50
    infra.up()
    assert {key: bodies(emu)[id_][key] for key in ("name", "size")} == {"name": "mine", "size": 60}
    infra.up("--expect-no-changes")

    infra.pulumi("config", "rm", "comfyform:adopt_volume")
    assert "adopt was removed. It stays taken over" in infra.pulumi("preview").stdout
    infra.up()
    assert infra.outputs()["volume_id"] == id_
    infra.up("--expect-no-changes")
    assert f"network volume {id_} ('mine') stays at RunPod" in infra.pulumi("destroy", "--yes").stdout
    assert list(bodies(emu)) == [id_]

    infra.configure(adopt_volume=id_, keep_adopted="false")
    infra.up()
    infra.pulumi("destroy", "--yes")
    assert bodies(emu) == {}


def test_another_adopted_volume_is_a_replacement_that_is_shown(infra: Project, emu: Emulator) -> None:
    """On a living stack: refused while the volume is protected; else shown, and the old one is kept."""
    first, second = console_volume(emu), console_volume(emu, name="other")
    infra.configure(adopt_volume=first, volume_gb="50", protect_volume="true")
    infra.up()
    infra.configure(adopt_volume=second)

    refused = infra.pulumi("preview", ok=False)
    assert refused.returncode == 1
    assert "another object is to be taken over (adopt), so it is replaced" in refused.stdout

    infra.configure(protect_volume="false", adopt_volume=first)
    infra.up()
    infra.configure(adopt_volume=second)
    infra.up()
    assert infra.outputs()["volume_id"] == second
    assert {first, second} <= set(bodies(emu))
    assert {tuple(each["networkVolumes"]) for each in emu.state()["endpoints"]} == {(second,)}
    infra.up("--expect-no-changes")


def point_at(emu: Emulator, infra: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**infra.env, **emu.env}.items():
        monkeypatch.setenv(name, value)


def test_a_whole_environment_is_imported_and_nothing_changes(
    infra: Project, emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Its state was lost: the proposal names everything, and up changes nothing at RunPod."""
    infra.pulumi("config", "set", "--secret", "comfyform:registry_username", "u")
    infra.pulumi("config", "set", "--secret", "comfyform:registry_password", "p")
    infra.pulumi("config", "set", "--path", "comfyform:gpu_pools[0]", "AMPERE_48")
    infra.configure(workers_max="1", job_timeout_s="700", ops_vcpus="4")
    infra.up()
    before = bodies(emu)

    with project(tmp_path / "second", emu) as second:
        point_at(emu, second, monkeypatch)
        (second.root / "models-registry.yaml").write_text("required: {}\n")
        assert commands.import_(json=True, project=second.root) == 0
        proposed = json.loads(capsys.readouterr().out)
        assert proposed["config"]["comfyform:gpu_pools"] == ["AMPERE_48"]
        adopted = {key: id_ for key, id_ in proposed["config"].items() if ":adopt_" in key}
        assert sorted(adopted.values()) == sorted(before)
        assert bodies(emu) == before

        assert commands.import_(write=True, project=second.root) == 0
        assert "stack.preview" in capsys.readouterr().err
        output = second.pulumi("preview").stdout
        assert len(re.findall(r"is taken over; changes: ", output)) >= len(before)
        second.up()
        assert bodies(emu) == before
        second.up("--expect-no-changes")
        assert "[retain]" in second.pulumi("destroy", "--yes").stdout
        assert bodies(emu) == before


def test_an_environment_of_the_console_is_imported(
    infra: Project, emu: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """What is there is taken over and keeps its names; what is missing is made; then up is quiet."""
    volume = console_volume(emu)
    other = console_volume(emu, name="unrelated")
    endpoint = emu.rest(
        "POST",
        "/serverless",
        {
            "name": "mine",
            "image": "comfyform/worker",
            "type": "QUEUE",
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
            "gpu": {"pools": ["AMPERE_48"]},
            "workers": {"max": 2},
            "networkVolumes": [volume],
        },
    ).json()["id"]
    point_at(emu, infra, monkeypatch)
    assert commands.import_(project=infra.root) == 0
    output = capsys.readouterr()
    assert f"Several objects could be the volume: {volume}, {other}. Choose one with --volume." in output.err

    assert commands.import_(volume=volume, write=True, project=infra.root) == 0
    infra.up()

    live = bodies(emu)
    assert (live[volume]["name"], live[volume]["size"], live[endpoint]["name"]) == ("mine", 50, "mine")
    assert (infra.outputs()["volume_id"], infra.outputs()["endpoint_id"]) == (volume, endpoint)
    assert len(live) == len(EVERYTHING) + 1
    infra.up("--expect-no-changes")


def test_two_states_of_one_name_stay_apart(emu: Emulator, tmp_path: Path) -> None:
    """The second's preview names and counts the first's objects; each destroy touches only its own."""
    with project(tmp_path / "first", emu) as first:
        (first.root / "models-registry.yaml").write_text("required: {}\n")
        first.up()
        before = bodies(emu)
        with project(tmp_path / "second", emu) as second:
            (second.root / "models-registry.yaml").write_text("required: {}\n")
            second.configure(worker_image="echo", workers_max="1")

            second.configure(worker_quota="4")
            refused = second.pulumi("preview", ok=False)
            assert refused.returncode == 1
            assert "the account's other endpoints 3, together 5: the quota is 4" in refused.stdout

            second.configure(worker_quota="5")
            output = second.pulumi("preview").stdout
            assert [id_ for id_ in before if id_ not in output] == []
            assert "Another state may own them" in output

            second.up()
            assert owned(emu) == sorted(EVERYTHING * 2)
            assert endpoint_urn("comfyform", STACK, "comfy-worker") in second.urns()
            second.up("--expect-no-changes")
            remaining = {id_: body for id_, body in bodies(emu).items() if id_ in before}
            assert remaining == before
            second.pulumi("destroy", "--yes")
        assert bodies(emu) == before
        first.up("--expect-no-changes")
        first.pulumi("destroy", "--yes")
        assert bodies(emu) == {}
