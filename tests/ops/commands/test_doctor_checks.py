"""The doctor: what it finds in a good set-up, and in each way that one can be ill."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from backend.flow import Reply
from backend.flow.http_driver import Http
from backend.settings import Secret, Settings
from ops.commands.doctor_checks import clock, examine, leftovers
from tests.support.emulation import Emulator
from tests.support.pulumi_project import REGISTRY


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "models-registry.yaml"
    path.write_text(REGISTRY)
    return path


def look(settings: Settings, registry: Path) -> dict[str, tuple[str, str]]:
    with Http() as http:
        return {each.what: (each.state, each.detail) for each in examine(settings, http, registry)}


def test_a_good_setup_has_no_problem(emu: Emulator, registry: Path) -> None:
    """Keys, addresses, clock and registry are fine; what is not set is said and is no problem."""
    endpoint = emu.rest(
        "POST",
        "/serverless",
        {
            "name": "e",
            "type": "QUEUE",
            "image": "echo",
            "gpu": {"pools": ["ADA_24"]},
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
        },
    ).json()["id"]
    volume = emu.rest("POST", "/network-volumes", {"name": "v", "size": 10, "dataCenter": "EU-RO-1"}).json()[
        "id"
    ]
    settings = replace(Settings.from_env(emu.env), runpod_endpoint_id=endpoint, runpod_volume_id=volume)

    found = look(settings, registry)

    assert [(what, detail) for what, (state, detail) in found.items() if state == "problem"] == []
    for what in ("RUNPOD_API_KEY", "RunPod REST v2", "RUNPOD_ENDPOINT_ID", "S3", "HF_TOKEN", "clock"):
        assert found[what][0] == "ok", (what, found[what])
    assert found["RUNPOD_OPS_ENDPOINT_ID"][0] == "not set"


def test_each_illness_has_its_finding(emu: Emulator, registry: Path) -> None:
    """Wrong keys, an endpoint that is gone and a broken registry are problems, and no secret shows."""
    registry.write_text("required: []\n")
    settings = replace(
        Settings.from_env(emu.env),
        runpod_api_key=Secret("rpa_MARKED"),
        runpod_endpoint_id="nothere",
        hf_token=Secret("hf_MARKED"),
        runpod_volume_id="nothere",
        runpod_s3_secret_access_key=Secret("rps_MARKED"),
    )

    found = look(settings, registry)

    for what in ("RUNPOD_API_KEY", "RUNPOD_ENDPOINT_ID", "S3", "HF_TOKEN", "registry"):
        assert found[what][0] == "problem", (what, found[what])
    assert "MARKED" not in str(found)


def test_nobody_there_is_one_finding(registry: Path) -> None:
    """An address where nothing listens is named with its variable."""
    settings = Settings(runpod_rest_url="http://127.0.0.1:9/v2", runpod_api_key=Secret("k"))

    found = look(settings, registry)

    assert found["RunPod REST v2"][0] == "problem"


@pytest.mark.parametrize(("off_s", "state"), [(0, "ok"), (59, "ok"), (300, "problem"), (-300, "problem")])
def test_a_clock_that_is_off_is_found(off_s: float, state: str) -> None:
    """Signed requests carry the time."""
    reply = Reply(200, {"date": formatdate(1_000_000, usegmt=True)}, b"", "https://x")

    assert clock(reply, 1_000_000 + off_s).state == state
    assert clock(Reply(200, {}, b"", "https://x"), 0).state == "warning"


def test_old_interfaces_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of REST v1 and GraphQL, and the provider that needs GraphQL."""
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.9.99" if name == "runpodinfra" else real(name)
    )
    settings = Settings(
        runpod_rest_url="https://rest.runpod.io/v1", runpod_jobs_url="https://api.runpod.io/graphql"
    )

    found = {each.what: each.state for each in leftovers(settings)}

    assert found == {"RUNPOD_REST_URL": "problem", "RUNPOD_JOBS_URL": "problem", "runpodinfra": "warning"}
