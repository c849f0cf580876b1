"""The MCP server on RunPod: asking first, patience, and a restart in the middle; over stdio and HTTP."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfyui_program import safetensors
from tests.support.emulation import Emulator
from tests.support.mcp_sessions import (
    ERAS,
    Action,
    Asked,
    data_of,
    over_http,
    over_stdio,
    running_server,
    settings,
    text_of,
)
from tests.support.worker_endpoint import Studio

pytestmark = pytest.mark.slow
PORTRAIT: dict[str, Any] = {"prompt": "Odin", "seed": 7, "width": 64, "height": 64, "output_path": "odin.png"}


@pytest.fixture
def gpu(emu: Emulator) -> Studio:
    """An endpoint with the portrait's checkpoint on its volume."""
    studio = Studio(emu, "comfyform/worker")
    checkpoint = studio.volume / "models" / "checkpoints" / "sd_xl_base_1.0.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(safetensors("stable-diffusion-xl-v1-base"))
    return studio


@pytest.fixture
def env(gpu: Studio, emu: Emulator, tmp_path: Path) -> dict[str, str]:
    return settings(
        tmp_path,
        COMFY_BACKEND="runpod",
        RUNPOD_ENDPOINT_ID=gpu.endpoint_id,
        **{name: emu.env[name] for name in ("RUNPOD_API_KEY", "RUNPOD_JOBS_URL", "RUNPOD_REST_URL")},
    )


def submitted(emu: Emulator) -> int:
    """Count the jobs that were paid for."""
    return len(emu.requests("POST", "/jobs/v2/*/run*"))


@pytest.mark.parametrize(("era", "action"), [(ERAS[0], "decline"), (ERAS[1], "cancel")])
async def test_a_refusal_costs_nothing(env: dict[str, str], emu: Emulator, era: str, action: Action) -> None:
    """The user is asked, with the endpoint's price; after a no nothing was sent, and the model is told."""
    user = Asked(action)
    async with over_stdio(env, era=era, user=user) as client:
        result = await client.call_tool("portrait", PORTRAIT)

    (question,) = user.questions
    assert question == (
        "Run portrait on runpod? prompt 'Odin', seed 7, width 64, height 64; size: 64 × 64 pixels. "
        "A worker at RunPod costs at most $1.12 an hour. No such job was finished before."
    )
    assert result.is_error
    assert text_of(result) == "The user did not agree, so nothing was sent and nothing was spent."
    assert submitted(emu) == 0


async def test_a_question_says_what_earlier_jobs_took(env: dict[str, str], emu: Emulator) -> None:
    """The journal has their seconds; where the price cannot be read, dollars are unknown too."""
    user = Asked("accept")
    async with over_stdio(env, user=user) as client:
        data_of(await client.call_tool("portrait", PORTRAIT))
        data_of(await client.call_tool("portrait", PORTRAIT))
    emu.fault("/rest/v2/catalog/*", method="GET", status=403, times=100)
    async with over_stdio(env, user=user) as client:
        data_of(await client.call_tool("portrait", PORTRAIT))

    number = r"\d+(\.\d)? s"
    amount = r"\$0\.\d+"
    assert re.search(
        rf"an hour\. The last such job took {number} and cost about {amount}\.$", user.questions[1]
    )
    assert re.search(
        rf" Unknown price\. The last 2 such jobs took {number}( to {number})?\.$", user.questions[2]
    )


async def test_wrong_arguments_are_told_before_anybody_is_asked(env: dict[str, str], tmp_path: Path) -> None:
    """Nobody has to agree to a call that cannot work."""
    user = Asked("accept")
    gone = str(tmp_path / "gone.png")
    async with over_stdio(env, user=user) as client:
        result = await client.call_tool("lipsync", {"portrait_image": gone, "audio": "voices/a.wav"})

    assert result.is_error
    assert user.questions == []


async def test_a_client_that_cannot_ask_leaves_it_to_the_model(
    env: dict[str, str], emu: Emulator, tmp_path: Path
) -> None:
    """Without a way to ask, the call is refused until the model says that the user agreed."""
    async with over_stdio(env) as client:
        refused = await client.call_tool("portrait", PORTRAIT)
        paid = submitted(emu)
        done = data_of(await client.call_tool("portrait", {**PORTRAIT, "confirm": True}))

    assert refused.is_error
    assert text_of(refused).endswith("If they agree, make the same call with confirm: true.")
    assert paid == 0
    assert (done["backend"], done["status"], done["seed"]) == ("runpod", "done", 7)
    assert (tmp_path / "outputs" / "odin.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("era", ERAS)
async def test_over_http_with_a_token_a_user_agrees(env: dict[str, str], tmp_path: Path, era: str) -> None:
    """The same over HTTP: progress comes while it runs, and the file is on the server's machine."""
    user = Asked("accept")
    heard: list[str | None] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    with running_server({**env, "COMFYFORM_MCP_TOKEN": "s3cret"}) as url:
        async with over_http(url, token="s3cret", era=era, user=user) as client:
            await client.list_tools()
            done = data_of(await client.call_tool("portrait", PORTRAIT, progress_callback=listen))

    assert len(user.questions) == 1
    assert done["files"][0]["path"] == str(tmp_path / "outputs" / "odin.png")
    assert heard
    assert [message for message in heard if not str(message).startswith("portrait: ")] == []


async def test_never_asking_is_a_setting(env: dict[str, str]) -> None:
    """COMFYFORM_MCP_CONFIRM=never spends without a question."""
    async with over_stdio({**env, "COMFYFORM_MCP_CONFIRM": "never"}) as client:
        data = data_of(await client.call_tool("portrait", PORTRAIT))

    assert data["status"] == "done"


async def test_a_job_survives_a_restart_of_the_server(
    env: dict[str, str], emu: Emulator, tmp_path: Path
) -> None:
    """Patience cuts a job short, the server ends, another one fetches it by its handle: paid for once."""
    emu.set(cold_start_s=1.0)
    async with over_stdio({**env, "COMFYFORM_MCP_CONFIRM": "never"}) as client:
        first = data_of(await client.call_tool("portrait", {**PORTRAIT, "timeout_s": 0.2}))
    async with over_stdio(env) as client:
        listed = data_of(await client.call_tool("job", {"action": "list"}))
        done = data_of(await client.call_tool("job", {"action": "resume", "job": first["job"]}))
        status = data_of(await client.call_tool("job", {"action": "status", "job": first["job"]}))

    assert first["status"] == "running"
    assert [(job["job"], job["verb"], job["status"]) for job in listed["jobs"]] == [
        (first["job"], "portrait", "running")
    ]
    assert (done["status"], done["files"][0]["path"]) == ("done", str(tmp_path / "outputs" / "odin.png"))
    assert status["status"] == "done"
    assert (tmp_path / "outputs" / "odin.png").is_file()
    assert submitted(emu) == 1


async def test_a_job_survives_a_killed_server(env: dict[str, str], emu: Emulator, tmp_path: Path) -> None:
    """The same when the server is killed while it waits, and the next one is another client's, over HTTP."""
    emu.set(cold_start_s=1.0)
    free = {**env, "COMFYFORM_MCP_CONFIRM": "never"}
    with running_server(free, end=signal.SIGKILL) as url:
        async with over_http(url) as client:
            first = data_of(await client.call_tool("portrait", {**PORTRAIT, "timeout_s": 0.2}))
    with running_server(env) as url:
        async with over_http(url) as client:
            done = data_of(await client.call_tool("job", {"action": "wait", "job": first["job"]}))

    assert (first["status"], done["status"]) == ("running", "done")
    assert (tmp_path / "outputs" / "odin.png").is_file()
    assert submitted(emu) == 1


async def test_a_job_is_cancelled_and_costs_no_more(env: dict[str, str], emu: Emulator, gpu: Studio) -> None:
    """Cancelling reaches RunPod, whichever server submitted it."""
    emu.set(cold_start_s=30.0)
    async with over_stdio({**env, "COMFYFORM_MCP_CONFIRM": "never"}) as client:
        job = data_of(await client.call_tool("portrait", {**PORTRAIT, "timeout_s": 0}))["job"]
    async with over_stdio(env) as client:
        cancelled = data_of(await client.call_tool("job", {"action": "cancel", "job": job}))
        waited = await client.call_tool("job", {"action": "wait", "job": job})

    assert cancelled["status"] == "cancelled"
    assert gpu.status(job)["status"] == "CANCELLED"
    assert waited.is_error
    assert "cancelled" in text_of(waited)


async def test_a_failed_job_is_a_sentence(env: dict[str, str]) -> None:
    """What the worker said, and what to do; no traceback."""
    async with over_stdio({**env, "COMFYFORM_MCP_CONFIRM": "never"}) as client:
        result = await client.call_tool("portrait", {**PORTRAIT, "model": "none.safetensors"})

    assert result.is_error
    assert "none.safetensors" in text_of(result)
    assert "Traceback" not in text_of(result)


async def test_a_wrong_key_is_a_sentence_without_the_key(env: dict[str, str], emu: Emulator) -> None:
    """RunPod refuses it: a tool error with the hint, and the key does not show."""
    async with over_stdio({**env, "RUNPOD_API_KEY": "rpa_wrong", "COMFYFORM_MCP_CONFIRM": "never"}) as client:
        result = await client.call_tool("portrait", PORTRAIT)

    assert result.is_error
    assert "401" in text_of(result)
    assert "Check RUNPOD_API_KEY" in text_of(result)
    assert "rpa_wrong" not in text_of(result)
