"""The model tools on a volume: through the ops endpoint's worker and over S3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp.types import TextResourceContents

from tests.support.comfyui_program import safetensors
from tests.support.emulation import Emulator
from tests.support.mcp_sessions import Asked, data_of, over_stdio, settings, text_of
from tests.support.studio_models import CHECKPOINT as XL
from tests.support.studio_models import REGISTRY
from tests.support.worker_endpoint import Studio

pytestmark = pytest.mark.slow


@pytest.fixture
def ops(emu: Emulator) -> Studio:
    """An ops endpoint whose volume has one wanted model and one that nobody wants."""
    studio = Studio(emu, "comfyform/ops")
    for path in (XL, "models/loras/old.safetensors"):
        (studio.volume / path).parent.mkdir(parents=True, exist_ok=True)
        (studio.volume / path).write_bytes(safetensors())
    return studio


@pytest.fixture
def env(ops: Studio, emu: Emulator, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "models.yaml").write_text(REGISTRY)
    names = ("RUNPOD_API_KEY", "RUNPOD_JOBS_URL", "RUNPOD_REST_URL")
    return settings(
        tmp_path,
        RUNPOD_OPS_ENDPOINT_ID=ops.endpoint_id,
        COMFYUI_MODELS_DIR=str(tmp_path / "no models here"),
        **{name: emu.env[name] for name in names},
    )


def over_s3(env: dict[str, str], emu: Emulator, ops: Studio) -> dict[str, str]:
    keys = {name: value for name, value in emu.env.items() if name.startswith("RUNPOD_S3_")}
    return {**env, **keys, "RUNPOD_VOLUME_ID": ops.volume_id}


async def test_the_volume_is_listed_by_category(env: dict[str, str], emu: Emulator, ops: Studio) -> None:
    """Through a worker and over S3 the answer is the same; without S3 keys the worker is used."""
    async with over_stdio(env) as client:
        await client.list_tools()
        by_job = data_of(await client.call_tool("listRemoteModels", {}))
    async with over_stdio(over_s3(env, emu, ops)) as client:
        by_s3 = data_of(await client.call_tool("listRemoteModels", {}))
    jobs = emu.requests("POST", "/jobs/v2/*/run*")

    assert by_job["status"] == "done"
    names = {kind: [file["name"] for file in files] for kind, files in by_job["categories"].items()}
    assert names == {"checkpoints": ["sd_xl_base_1.0.safetensors"], "loras": ["old.safetensors"]}
    assert by_s3["categories"] == by_job["categories"]
    assert len(jobs) == 1


async def test_a_comparison_says_what_is_missing_and_is_kept(env: dict[str, str], tmp_path: Path) -> None:
    """summary.missing_on_remote, an action with its reason, and the whole of it as a resource."""
    registry = str(tmp_path / "models.yaml")
    async with over_stdio(env, "--registry", registry) as client:
        await client.list_tools()
        data = data_of(await client.call_tool("compareModels", {}))
        everything = data_of(await client.call_tool("compareModels", {"all": True}))
    async with over_stdio(env, "--registry", registry) as client:
        remaining = (await client.read_resource("comfyform://comparison")).contents[0]

    assert data["summary"]["missing_on_remote"] == ["models/sonic/unet.pth"]
    assert data["counts"]["extra_on_remote"] == 1
    actions = {action["path"]: action["kind"] for action in data["actions"]}
    assert actions == {XL: "unknown", "models/sonic/unet.pth": "fetch"}
    assert len(everything["actions"]) == 3
    assert isinstance(remaining, TextResourceContents)
    assert json.loads(remaining.text)["actions"] == everything["actions"]


async def test_a_look_outlasts_the_callers_patience(env: dict[str, str], emu: Emulator) -> None:
    """A cold worker takes long: the call says so, and the next call gets the same look, not another."""
    emu.set(cold_start_s=1.0)
    async with over_stdio(env) as client:
        await client.list_tools()
        first = data_of(await client.call_tool("listRemoteModels", {"timeout_s": 0.1}))
        done = data_of(await client.call_tool("listRemoteModels", {}))
    jobs = emu.requests("POST", "/jobs/v2/*/run*")

    assert (first["status"], first["files"]) == ("running", 0)
    assert (done["status"], done["files"]) == ("done", 2)
    assert len(jobs) == 1


async def test_cpu_jobs_are_asked_about_where_the_settings_say_all(
    env: dict[str, str], emu: Emulator
) -> None:
    """COMFYFORM_MCP_CONFIRM=all asks before the worker that reads the volume."""
    user = Asked("decline")
    async with over_stdio({**env, "COMFYFORM_MCP_CONFIRM": "all"}, user=user) as client:
        result = await client.call_tool("listRemoteModels", {})

    assert result.is_error
    assert user.questions == [
        "Look at the volume? It costs a fraction of a cent, for a CPU worker that reads the volume."
    ]
    assert emu.requests("POST", "/jobs/v2/*/run*") == []


async def test_long_lists_come_in_pages(env: dict[str, str], emu: Emulator, ops: Studio) -> None:
    """Two hundred files an answer, each file once, all from one look."""
    folder = ops.volume / "models" / "loras"
    for number in range(450):
        (folder / f"{number:03}.safetensors").write_bytes(b"x")
    names: list[str] = []
    sizes: list[int] = []
    cursor: dict[str, Any] = {}
    async with over_stdio(env) as client:
        while True:
            data = data_of(await client.call_tool("listRemoteModels", cursor))
            page = [file["path"] for files in data["categories"].values() for file in files]
            names += page
            sizes.append(len(page))
            if data["next_cursor"] is None:
                break
            cursor = {"cursor": data["next_cursor"]}
    jobs = emu.requests("POST", "/jobs/v2/*/run*")

    assert sizes == [200, 200, 52]
    assert len(set(names)) == data["files"] == 452
    assert len(jobs) == 1


async def test_a_registry_with_mistakes_is_told_whole(env: dict[str, str], tmp_path: Path) -> None:
    """All problems of the file come at once, with their lines, before the volume is looked at."""
    registry = tmp_path / "models.yaml"
    registry.write_text("required:\n  a:\n    files: []\n    colour: red\n  b: 3\n")
    async with over_stdio(env, "--registry", str(registry)) as client:
        result = await client.call_tool("compareModels", {})
        missing = await client.call_tool("scanLocalModels", {})

    assert result.is_error
    assert "models.yaml:4" in text_of(result)
    assert "models.yaml:5" in text_of(result)
    assert missing.is_error
    assert "Set COMFYUI_MODELS_DIR" in text_of(missing)
