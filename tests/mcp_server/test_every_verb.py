"""Every generation tool once on both backends, over HTTP; and a talk whose server ends in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.emulation import Emulator, running_emulator
from tests.support.mcp_sessions import data_of, over_http, over_stdio, running_server, settings
from tests.support.studio_models import complete_comfyui, fill_hub, fill_models, write_wav
from tests.support.worker_endpoint import Studio

pytestmark = pytest.mark.slow
TEXT = "Hail, traveller. The ravens brought word of you and yours."
MAGIC = {"image": b"\x89PNG", "audio": b"fLaC", "video": b"ftyp"}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A voice and a face."""
    folder = tmp_path_factory.mktemp("media")
    Image.linear_gradient("L").resize((128, 128)).save(folder / "odin.png")
    voice = write_wav(folder / "voice.wav")
    return {"voice_reference": str(voice), "portrait_image": str(folder / "odin.png")}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings for a ComfyUI on this machine with every model."""
    with complete_comfyui(tmp_path_factory.mktemp("comfyui")) as comfyui:
        yield settings(tmp_path_factory.mktemp("local"), COMFYUI_URL=comfyui.url)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(tmp_path_factory.mktemp("emulator")) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def runpod(emulated: Emulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings for an endpoint of our worker, its volume with every model."""
    studio = Studio(emulated, "comfyform/worker")
    fill_models(studio.volume / "models")
    fill_hub(studio.volume / "huggingface-cache" / "hub")
    return settings(
        tmp_path_factory.mktemp("runpod"),
        COMFY_BACKEND="runpod",
        COMFYFORM_MCP_CONFIRM="never",
        RUNPOD_ENDPOINT_ID=studio.endpoint_id,
        RUNPOD_VOLUME_ID=studio.volume_id,
        **{name: value for name, value in emulated.env.items() if name.startswith("RUNPOD_")},
    )


def head(path: str) -> bytes:
    """Return a file's first bytes."""
    return Path(path).read_bytes()[:12]


@pytest.mark.parametrize("backend", ["local", "runpod"])
async def test_every_verb_makes_its_file(
    request: pytest.FixtureRequest, media: dict[str, str], backend: str
) -> None:
    """Each tool answers with a file of its kind; the speech of one call is the audio of the next."""
    env: dict[str, str] = request.getfixturevalue(backend)
    voice, face = {"voice_reference": media["voice_reference"]}, {"portrait_image": media["portrait_image"]}
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("portrait", {"prompt": "Odin", "width": 64, "height": 64}, "image"),
        ("imagine", {"description": "a ship", "quality": "draft", "width": 64, "height": 64}, "image"),
        ("tts", {"text": TEXT, **voice, "output_path": "speech.flac"}, "audio"),
        ("lipsync", {"audio": "speech.flac", **face}, "video"),
        ("talk", {"text": TEXT, **voice, **face, "output_path": "talk.mp4"}, "video"),
    ]
    created = []
    with running_server(env) as url:
        async with over_http(url) as client:
            await client.list_tools()  # so that the client checks answers against the output schemas
            for verb, arguments, _ in calls:
                created.append(data_of(await client.call_tool(verb, {**arguments, "timeout_s": 120})))

    for (verb, _, kind), data in zip(calls, created, strict=True):
        assert (data["verb"], data["backend"], data["status"]) == (verb, backend, "done")
        file = data["files"][0]
        assert file["type"] == kind
        assert MAGIC[kind] in head(file["path"])
    assert Path(created[4]["files"][0]["path"]).name == "talk.mp4"


@pytest.mark.parametrize("backend", ["local", "runpod"])
async def test_a_talk_goes_on_after_a_restart(
    request: pytest.FixtureRequest, media: dict[str, str], emulated: Emulator, backend: str
) -> None:
    """Its server ends while it is made; another fetches the film of that one job, and nothing runs twice.

    A cancel that comes too late takes nothing away.
    """
    env: dict[str, str] = request.getfixturevalue(backend)
    before = len(emulated.requests("POST", "/jobs/v2/*/run*"))
    async with over_stdio(env) as client:
        arguments = {"text": TEXT, **media, "output_path": f"{backend}-again.mp4", "timeout_s": 0}
        first = data_of(await client.call_tool("talk", arguments))
    async with over_stdio(env) as client:
        done = data_of(
            await client.call_tool("job", {"action": "resume", "job": first["job"], "timeout_s": 120})
        )
    async with over_stdio(env) as client:
        late = data_of(await client.call_tool("job", {"action": "cancel", "job": first["job"]}))
        again = data_of(await client.call_tool("job", {"action": "wait", "job": first["job"]}))

    assert (first["status"], late["status"]) == ("running", "unknown")
    assert (done["status"], done["verb"], done["files"][0]["type"]) == ("done", "talk", "video")
    assert Path(done["files"][0]["path"]).name == f"{backend}-again.mp4"
    assert again["files"][0]["sha256"] == done["files"][0]["sha256"]
    paid = len(emulated.requests("POST", "/jobs/v2/*/run*")) - before
    assert paid == (1 if backend == "runpod" else 0)
