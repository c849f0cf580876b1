"""A client that cancels a tool call cancels its job; one that disconnects does not."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from backend.jobs.journal import Entry, Journal
from tests.support.emulation import Emulator
from tests.support.mcp_sessions import ERAS, data_of, over_http, over_stdio, running_server, settings
from tests.support.worker_endpoint import Studio, until

pytestmark = pytest.mark.slow
PORTRAIT: dict[str, Any] = {"prompt": "Odin", "width": 64, "height": 64, "timeout_s": 60}
CANCEL = "/jobs/v2/*/cancel/*"


@pytest.fixture
def gpu(emu: Emulator) -> Studio:
    """An endpoint whose worker does not start within a test."""
    emu.set(cold_start_s=300.0)
    return Studio(emu, "comfyform/worker")


@pytest.fixture
def env(gpu: Studio, emu: Emulator, tmp_path: Path) -> dict[str, str]:
    return settings(
        tmp_path,
        COMFY_BACKEND="runpod",
        COMFYFORM_MCP_CONFIRM="never",
        RUNPOD_ENDPOINT_ID=gpu.endpoint_id,
        **{name: emu.env[name] for name in ("RUNPOD_API_KEY", "RUNPOD_JOBS_URL", "RUNPOD_REST_URL")},
    )


def only_entry(tmp_path: Path) -> Entry:
    """The one job in the journal."""
    (entry,) = Journal(tmp_path / "state" / "jobs").entries()
    return entry


async def running_call(client: Client, tool: str = "portrait", **arguments: Any) -> asyncio.Task[Any]:
    """Start a call that waits for a job, and return once the server reports that it waits."""
    waits = asyncio.Event()

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        waits.set()

    call = asyncio.create_task(client.call_tool(tool, arguments or PORTRAIT, progress_callback=listen))
    progress = asyncio.create_task(waits.wait())
    await asyncio.wait({call, progress}, return_when=asyncio.FIRST_COMPLETED)
    assert not call.done(), call.result()
    return call


async def abandon(call: asyncio.Task[Any]) -> None:
    """End a call as a client does whose user pressed Escape."""
    call.cancel()
    await asyncio.wait({call})


def connection(
    env: dict[str, str], transport: str, era: str, stack: ExitStack
) -> AbstractAsyncContextManager[Client]:
    """Connect to a new server."""
    if transport == "stdio":
        return over_stdio(env, era=era)
    return over_http(stack.enter_context(running_server(env)), era=era)


@pytest.mark.parametrize(("transport", "era"), [("stdio", ERAS[0]), ("stdio", ERAS[1]), ("http", ERAS[1])])
async def test_a_cancelled_call_cancels_its_job(
    env: dict[str, str], gpu: Studio, tmp_path: Path, transport: str, era: str
) -> None:
    """RunPod and the journal say so, and the client's next calls are answered."""
    with ExitStack() as stack:
        async with connection(env, transport, era, stack) as client:
            await abandon(await running_call(client))
            job = only_entry(tmp_path).job_id
            await asyncio.to_thread(until, lambda: only_entry(tmp_path).state == "CANCELLED")
            listed = data_of(await client.call_tool("job", {"action": "list"}))["jobs"]

    assert [(entry["job"], entry["status"]) for entry in listed] == [(job, "cancelled")]
    assert gpu.status(job)["status"] == "CANCELLED"


async def test_a_call_that_is_cancelled_while_it_submits(
    env: dict[str, str], emu: Emulator, gpu: Studio, tmp_path: Path
) -> None:
    """The submission ends first, as nobody knows the job before; then the job is cancelled."""
    emu.fault("/jobs/v2/*/run", delay_s=1.0)
    async with over_stdio(env) as client:
        call = asyncio.create_task(client.call_tool("portrait", PORTRAIT))
        await asyncio.to_thread(until, lambda: Journal(tmp_path / "state" / "jobs").entries())
        await abandon(call)
        await asyncio.to_thread(until, lambda: only_entry(tmp_path).state == "CANCELLED")

    assert gpu.status(only_entry(tmp_path).job_id)["status"] == "CANCELLED"


@pytest.mark.parametrize(("transport", "era"), [("stdio", ERAS[0]), ("stdio", ERAS[1]), ("http", ERAS[1])])
async def test_a_client_that_disconnects_cancels_nothing(
    env: dict[str, str], emu: Emulator, gpu: Studio, tmp_path: Path, transport: str, era: str
) -> None:
    """The job goes on, and the next server has it."""
    with ExitStack() as stack:
        async with connection(env, transport, era, stack) as client:
            call = await running_call(client)
        await asyncio.wait({call})
    job = only_entry(tmp_path).job_id

    assert call.exception() is not None
    assert emu.requests("POST", CANCEL) == []
    assert gpu.status(job)["status"] == "IN_QUEUE"
    async with over_stdio(env) as client:
        status = data_of(await client.call_tool("job", {"action": "status", "job": job}))
    assert status["status"] == "running"


async def test_over_http_without_sessions_a_closed_stream_cancels_nothing(
    env: dict[str, str], emu: Emulator, gpu: Studio, tmp_path: Path
) -> None:
    """Since protocol 2026-07-28 a client cancels over HTTP as a lost connection does."""
    with running_server(env) as url:
        async with over_http(url, era=ERAS[0]) as client:
            await abandon(await running_call(client))
            job = only_entry(tmp_path).job_id
            status = data_of(await client.call_tool("job", {"action": "status", "job": job}))

    assert status["status"] == "running"
    assert emu.requests("POST", CANCEL) == []
    assert gpu.status(job)["status"] == "IN_QUEUE"


async def test_a_cancelled_wait_leaves_the_job_alone(
    env: dict[str, str], emu: Emulator, tmp_path: Path
) -> None:
    """The call did not start the job, and neither did one that was answered before."""
    async with over_stdio(env) as client:
        job = data_of(await client.call_tool("portrait", {**PORTRAIT, "timeout_s": 0}))["job"]
        await abandon(await running_call(client, "job", action="wait", job=job, timeout_s=60))
        status = data_of(await client.call_tool("job", {"action": "status", "job": job}))

    assert status["status"] == "running"
    assert emu.requests("POST", CANCEL) == []
