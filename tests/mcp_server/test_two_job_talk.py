"""A talk of two paid jobs, at a backend that has no one job for it: neither is ever paid for twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.jobs.journal import Journal
from tests.support.emulation import Emulator
from tests.support.mcp_sessions import data_of, over_stdio, settings, text_of

pytestmark = pytest.mark.slow
PAID = ("/hedra/v3/models/*", "/hedra/v3/models/*/estimate")


@pytest.fixture
def env(emu: Emulator, tmp_path: Path) -> dict[str, str]:
    """Settings for Hedra, which speaks and films in two jobs."""
    emu.set(hedra_rate_per_minute=100_000, hedra_job_s=0.3)
    hedra = {name: value for name, value in emu.env.items() if name.startswith("HEDRA_")}
    return settings(
        tmp_path, COMFY_BACKEND="hedra", COMFYFORM_MCP_CONFIRM="never", HEDRA_POLL_S="0.05", **hedra
    )


@pytest.fixture
def talk(tmp_path: Path) -> dict[str, Any]:
    """The arguments of a talk that is only submitted."""
    Image.linear_gradient("L").resize((128, 128)).save(tmp_path / "odin.png")
    return {
        "text": "Hail, traveller.",
        "voice_reference": "Aria",
        "portrait_image": str(tmp_path / "odin.png"),
        "output_path": "talk.mp4",
        "timeout_s": 0,
    }


def submitted(emu: Emulator) -> int:
    """Count the jobs that Hedra was asked to run."""
    jobs, prices = (len(emu.requests("POST", path)) for path in PAID)
    return jobs - prices


async def begin(env: dict[str, str], talk: dict[str, Any]) -> str:
    """Submit a talk to a server that ends at once, and give the handle."""
    async with over_stdio(env) as client:
        begun = data_of(await client.call_tool("talk", talk))
    assert (begun["status"], begun["job"][:5]) == ("running", "talk-")
    return str(begun["job"])


async def test_two_servers_that_go_on_at_once_pay_for_one_film(
    emu: Emulator, env: dict[str, str], talk: dict[str, Any]
) -> None:
    """Both wait for the speech and want its film; one submits it, both give it, and a third too."""
    wait = {"action": "resume", "job": await begin(env, talk), "timeout_s": 60}
    # Whoever is first stops for a while between looking whether there is a film and submitting it.
    emu.fault(PAID[1], delay_s=1.0)

    async with over_stdio(env) as one, over_stdio(env) as other:
        answers = [*await asyncio.gather(one.call_tool("job", wait), other.call_tool("job", wait))]
    async with over_stdio(env) as third:
        answers.append(await third.call_tool("job", wait))

    films = [data_of(answer)["files"][0] for answer in answers]
    assert len({film["sha256"] for film in films}) == 1
    assert {Path(film["path"]).name for film in films} == {"talk.mp4"}
    assert submitted(emu) == 2


async def test_a_cancelled_talk_stays_cancelled(
    emu: Emulator, env: dict[str, str], talk: dict[str, Any]
) -> None:
    """Hedra cannot stop the speech; no server makes the film, however often it is asked to go on."""
    async with over_stdio(env) as client:
        job = data_of(await client.call_tool("talk", talk))["job"]
        cancelled = data_of(await client.call_tool("job", {"action": "cancel", "job": job}))
        here = await client.call_tool("job", {"action": "wait", "job": job})
    async with over_stdio(env) as client:
        there = await client.call_tool("job", {"action": "resume", "job": job})

    assert (cancelled["status"], cancelled["verb"]) == ("cancelled", "talk")
    assert [text_of(result) for result in (here, there)] == [f"The talk {job} was cancelled."] * 2
    assert submitted(emu) == 1


async def test_a_film_of_which_nobody_knows_whether_it_was_submitted_is_not_submitted_again(
    emu: Emulator, env: dict[str, str], talk: dict[str, Any], tmp_path: Path
) -> None:
    """A server died between the request and its answer: the next one says so instead of paying again."""
    job = await begin(env, talk)
    # What such a server leaves behind: the journal is written before the request.
    Journal(tmp_path / "state" / "jobs").begin(
        "lipsync", "", seed=None, output_path=tmp_path / "outputs" / "talk.mp4", params={}, backend="hedra"
    )

    async with over_stdio(env) as client:
        refused = await client.call_tool("job", {"action": "resume", "job": job, "timeout_s": 60})

    assert refused.is_error
    assert text_of(refused).startswith(f"A server ended while it submitted the film of {job}, ")
    assert submitted(emu) == 1
