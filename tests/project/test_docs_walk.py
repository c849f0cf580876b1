"""A newcomer's walk: the pages that need a deployment, block by block, on one emulated RunPod."""

import asyncio
import base64
import json
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import yaml
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.support.emulation import IMAGES, Emulator, running_emulator, until
from tests.support.mcp_sessions import data_of, over_http
from tests.support.pages import Shell, blocks, clone
from tests.support.ports import free_port
from tests.support.studio_models import fill_hub, fill_models, write_wav

DOWN = "## 8. Down"


def images() -> dict[str, str]:
    """Return our worker's programs for the images that the deployment page has you push."""
    config = next(block for block in blocks("first-deployment", "sh") if "Pulumi.dev.yaml" in block)
    named = dict(re.findall(r"comfyform:(ops|worker)_image: (\S+)", config))
    return {image: IMAGES[f"comfyform/{kind}"] for kind, image in named.items()}


def fill(volume: Path, scratch: Path) -> None:
    """Put onto the volume what the small registry of this walk has not: models of lipsync, and a voice."""
    fill_models(scratch / "models")
    fill_hub(scratch / "huggingface-cache" / "hub")
    (scratch / "voices").mkdir()
    write_wav(scratch / "voices" / "odin.wav")
    for path in scratch.rglob("*"):
        place = volume / path.relative_to(scratch)
        if path.is_file() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def job_of_the_worker_page(picture: bytes) -> dict[str, Any]:
    """Return the worker page's job, its two placeholders filled in."""
    (text,) = blocks("worker", "json")
    job: dict[str, Any] = json.loads(text)
    (file,) = job["input"]["inputs"]
    assert (file.pop("sha256"), file["data"]) == ("…", "<base64>")
    file["data"] = base64.b64encode(picture).decode()
    return job


@asynccontextmanager
async def started_from(snippet: str, addresses: Mapping[str, str]) -> AsyncIterator[Client]:
    """Start the server as a client would that read this snippet: it knows only where RunPod is."""
    server = json.loads(snippet)["mcpServers"]["comfyform"]
    parameters = StdioServerParameters(command=server["command"], args=server["args"], env=dict(addresses))
    async with Client(stdio_client(parameters)) as client:
        yield client


async def ready(client: Client) -> dict[str, Any]:
    """Ask a server whether its RunPod would take a job."""
    answer = data_of(await client.call_tool("backend_status", {"backend": "runpod"}))
    (status,) = answer["backends"]
    return dict(status)


def answers(port: str) -> bool:
    """Tell whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


async def walk_the_mcp_page(shell: Shell) -> list[dict[str, Any]]:
    """Follow the MCP page: a server from its snippet, one over HTTP, and what both say of RunPod."""
    settings, paste = blocks("mcp", "sh", before="## Over HTTP")
    serve, snippet = blocks("mcp", "sh", after="## Over HTTP")
    shell.run(settings)
    addresses = {name: shell.env[name] for name in ("RUNPOD_REST_URL", "RUNPOD_JOBS_URL")}
    async with started_from(shell.run(paste), addresses) as client:
        over_pipes = await ready(client)

    port = str(free_port())
    shell.env["COMFYFORM_MCP_TOKEN"] = "a-token-of-the-reader"
    shell.run(serve.strip().replace("8765", port) + " > serving &")
    until(lambda: answers(port))
    pasted = json.loads(shell.run(snippet.replace("8765", port)))["mcpServers"]["comfyform"]
    assert pasted["headers"] == {"Authorization": "Bearer ${COMFYFORM_MCP_TOKEN}"}
    async with over_http(pasted["url"], token=shell.env["COMFYFORM_MCP_TOKEN"]) as client:
        over_the_net = await ready(client)
    shell.end_jobs()
    return [over_pipes, over_the_net]


@pytest.fixture
def emulator(tmp_path):
    """An emulator whose images have the names that the pages use."""
    with running_emulator(tmp_path / "emulator", images=images()) as emulator:
        yield emulator


@pytest.fixture
def shell(emulator: Emulator, tmp_path):
    """A newcomer's shell: a fresh clone, a home of its own, and RunPod at another address."""
    home = tmp_path / "home"
    models = emulator.root / "comfyui" / "models"
    for folder in (home, tmp_path / "scratch", tmp_path / "state"):
        folder.mkdir()
    cache = os.environ.get("XDG_CACHE_HOME") or str(platformdirs.user_cache_path())
    env = {
        **emulator.env,
        "HOME": str(home),
        "XDG_CACHE_HOME": cache,  # where the Pulumi CLI is
        "PULUMI_BACKEND_URL": (tmp_path / "state").as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_HOME": str(tmp_path / "pulumi"),
        "COMFYFORM_STATE_DIR": str(tmp_path / "journal"),
        "COMFYUI_MODELS_DIR": str(models),
    }
    project = clone(tmp_path / "comfyform")
    shell = Shell(project, tmp_path / "scratch", {**env, "PYTHONPATH": str(project)})
    yield shell
    shell.end_jobs()


@pytest.mark.slow
def test_a_newcomer_can_follow_the_pages(emulator, shell, tmp_path):
    """README, deployment, models, runtime, worker and MCP pages: each block runs, and all is taken down."""
    for block in blocks("first-deployment", "sh", before=DOWN) + blocks("models", "sh"):
        shell.run(block)
    odin = shell.folder / "odin.png"
    assert odin.read_bytes().startswith(b"\x89PNG")
    shipped = yaml.safe_load((shell.folder / "Pulumi.dev.yaml").read_text())["config"]
    assert {shipped["comfyform:ops_image"], shipped["comfyform:worker_image"]} == set(images())

    volume = emulator.volume_dir(shell.env["RUNPOD_VOLUME_ID"])
    fill(volume, tmp_path / "more")
    write_wav(shell.folder / "speech.wav")
    for block in blocks("README", "python") + blocks("runtime", "python"):
        shell.python(block)
    for block in blocks("runtime", "sh"):
        shell.run(block)
    created = {path.name for path in shell.folder.iterdir()}
    assert {"odin.mp4", "lighthouse.png", "draft.png", "report.html"} <= created

    job = job_of_the_worker_page(odin.read_bytes())
    answer = emulator.jobs("POST", f"/{shell.env['RUNPOD_ENDPOINT_ID']}/runsync?wait=60000", job).json()
    assert answer["status"] == "COMPLETED", answer

    assert [status["healthy"] for status in asyncio.run(walk_the_mcp_page(shell))] == [True, True]

    # What the page has the reader edit; no other word of it is done by hand.
    config = shell.folder / "Pulumi.dev.yaml"
    config.write_text(config.read_text().replace("config:\n", "config:\n  comfyform:protect_volume: false\n"))
    for block in blocks("first-deployment", "sh", after=DOWN):
        shell.run(block)
    assert emulator.rest("GET", "/network-volumes").json() == {"networkVolumes": []}
    assert emulator.rest("GET", "/serverless").json() == {"endpoints": []}
