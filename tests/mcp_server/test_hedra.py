"""The MCP server on Hedra, which has no one job for a talk and a price per job."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.support.emulation import Emulator
from tests.support.mcp_sessions import Asked, data_of, over_stdio, settings, text_of

pytestmark = pytest.mark.slow


@pytest.fixture
def env(emu: Emulator, tmp_path: Path) -> dict[str, str]:
    """Settings for Hedra."""
    emu.set(hedra_rate_per_minute=100_000, hedra_job_s=0.1)
    hedra = {name: value for name, value in emu.env.items() if name.startswith("HEDRA_")}
    return settings(tmp_path, COMFY_BACKEND="hedra", HEDRA_POLL_S="0.05", **hedra)


async def test_talk_is_not_supported_and_its_two_jobs_are(
    emu: Emulator, env: dict[str, str], tmp_path: Path
) -> None:
    """The refusal comes before the question and before any request; what it advises works."""
    Image.linear_gradient("L").resize((128, 128)).save(tmp_path / "odin.png")
    face = {"portrait_image": str(tmp_path / "odin.png")}
    speech = {"text": "Hail, traveller.", "voice_reference": "Aria"}
    user = Asked("accept")
    async with over_stdio(env, user=user) as client:
        refused = await client.call_tool("talk", {**speech, **face})
        requested, sent = list(user.questions), len(emu.requests("POST", "/hedra/*"))
        spoken = data_of(await client.call_tool("tts", {**speech, "timeout_s": 60}))
        sound = {"audio": spoken["files"][0]["path"]}
        video = data_of(await client.call_tool("lipsync", {**face, **sound, "timeout_s": 60}))
        await client.call_tool("tts", {**speech, "timeout_s": 60})

    assert refused.is_error
    assert text_of(refused) == (
        "At the hedra backend talk is two jobs: submit tts, then lipsync with its result."
    )
    assert (requested, sent) == ([], 0)
    first, lipsync, again = user.questions
    limit = "Hedra sets a price for each job; above $1.00 (HEDRA_MAX_USD) it is refused."
    assert first == (
        "Run tts on hedra? text 'Hail, traveller.', voice_reference 'Aria'; size: 16 characters of text. "
        f"{limit} No such job was finished before."
    )
    assert "size: video of " in lipsync
    assert "unknown length" not in lipsync
    assert re.search(r"The last such job took \d\S* s and cost about \$\d\.\d+\.$", again)
    assert (video["status"], video["files"][0]["type"]) == ("done", "video")
