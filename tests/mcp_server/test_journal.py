"""The MCP server and the journal: entries of a local ComfyUI, and a journal that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.jobs.journal import Journal
from tests.support.comfyui_program import ComfyUI, running_comfyui
from tests.support.mcp_sessions import data_of, over_stdio, settings, text_of

pytestmark = pytest.mark.slow
PORTRAIT: dict[str, Any] = {"prompt": "Odin", "width": 64, "height": 64}


@pytest.fixture
def comfyui(tmp_path: Path) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path / "comfyui") as comfyui:
        comfyui.add_model("checkpoints/sd_xl_base_1.0.safetensors")
        yield comfyui


@pytest.fixture
def env(comfyui: ComfyUI, tmp_path: Path) -> dict[str, str]:
    return settings(tmp_path, COMFYUI_URL=comfyui.url)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "jobs")


@contextlib.contextmanager
def exclusively_locked(journal: Journal) -> Iterator[None]:
    """Let neither readers nor writers of other processes into the journal's database."""
    database = sqlite3.connect(journal.folder / "journal.sqlite3", isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        database.close()


async def test_a_journal_that_does_not_answer_stops_no_other_request(
    env: dict[str, str], journal: Journal
) -> None:
    """Calls that need the journal wait for it; others are answered meanwhile, and in the end all are."""
    async with over_stdio(env) as client:
        job = data_of(await client.call_tool("portrait", PORTRAIT))["job"]
    journal = Journal(journal.folder)
    calls = [
        ("job", {"action": "list"}),
        ("job", {"action": "status", "job": job}),
        ("job", {"action": "cancel", "job": job}),
        ("job", {"action": "wait", "job": job}),
        ("portrait", PORTRAIT),
    ]
    async with over_stdio(env) as client:
        await client.call_tool("backend_status", {})
        with exclusively_locked(journal):
            waiting = [asyncio.create_task(client.call_tool(name, inputs)) for name, inputs in calls]
            ready = data_of(await client.call_tool("backend_status", {"backend": "local"}))
            tools = (await client.list_tools()).tools
            finished = [task.done() for task in waiting]
        results = await asyncio.gather(*waiting)

    assert ready["backends"][0]["healthy"]
    assert tools
    assert finished == [False] * len(calls)
    assert [text_of(result) for result in results if result.is_error] == []


async def test_jobs_of_a_local_comfyui_are_written_down(
    env: dict[str, str], comfyui: ComfyUI, journal: Journal
) -> None:
    """Submitted, done, failed, cancelled and refused: each entry has its state, and where its result is."""
    async with over_stdio(env) as client:
        done = data_of(await client.call_tool("portrait", {**PORTRAIT, "output_path": "odin.png"}))
        refused = await client.call_tool("portrait", {**PORTRAIT, "model": "none.safetensors"})
        comfyui.emulate(step_s=0.2)
        slow = {**PORTRAIT, "steps": 200, "timeout_s": 0}
        cancelled = data_of(await client.call_tool("portrait", slow))["job"]
        open_state = journal.find(cancelled)
        await client.call_tool("job", {"action": "cancel", "job": cancelled})
        failing = data_of(await client.call_tool("portrait", slow))["job"]
        comfyui.http.post("/interrupt", json={"prompt_id": failing})
        failed = await client.call_tool("job", {"action": "wait", "job": failing})

    entries = journal.entries()
    assert refused.is_error
    assert failed.is_error
    assert open_state is not None
    assert (open_state.state, open_state.job_id, open_state.backend) == ("IN_QUEUE", cancelled, "local")
    assert [(entry.state, entry.job_id) for entry in entries] == [
        ("FAILED", failing),
        ("CANCELLED", cancelled),
        ("NOT_SUBMITTED", ""),
        ("COMPLETED", done["job"]),
    ]
    assert [bool(entry.error) for entry in entries] == [True, False, True, False]
    assert entries[3].result is not None
    assert entries[3].result["files"][0]["local_path"] == done["files"][0]["path"]


async def test_a_list_comes_in_pages(env: dict[str, str], journal: Journal) -> None:
    """The newest 25 first, then the rest; the text says how many there are; a bad cursor is a sentence."""
    for number in range(30):
        journal.write(
            journal.begin("tts", "ep", seed=number, output_path=None, params={}), job_id=f"j-{number}"
        )
    async with over_stdio(env) as client:
        first = await client.call_tool("job", {"action": "list"})
        cursor = data_of(first)["next_cursor"]
        second = data_of(await client.call_tool("job", {"action": "list", "cursor": cursor}))
        wrong = [
            await client.call_tool("job", {"action": "list", "cursor": text}) for text in ("x", "9" * 40, "²")
        ]

    shown = [entry["job"] for entry in (*data_of(first)["jobs"], *second["jobs"])]
    assert shown == [f"j-{number}" for number in reversed(range(30))]
    assert text_of(first).startswith("30 jobs, newest first.")
    assert second["next_cursor"] is None
    assert ["is not a cursor" in text_of(result) for result in wrong] == [True] * 3
