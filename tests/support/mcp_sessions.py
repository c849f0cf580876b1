"""Our MCP server as its clients see it: the SDK's own client, over a process's pipes or over HTTP."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ElicitResult

from tests.support.deadlines import HANG_S

ERAS = ("2026-07-28", "legacy")
"""Protocol versions that differ in how a server asks: by its answer, or by a request of its own."""

Action = Literal["accept", "decline", "cancel"]


class Asked:
    """A client's user: answers every question alike, and remembers what was asked."""

    def __init__(self, action: Action) -> None:
        self.action = action
        self.questions: list[str] = []

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.questions.append(params.message)
        return ElicitResult(action=self.action, content={} if self.action == "accept" else None)


@contextlib.asynccontextmanager
async def over_stdio(
    env: Mapping[str, str], *arguments: str, era: str = "2026-07-28", user: Asked | None = None
) -> AsyncIterator[Client]:
    """Start a server with these settings, as a client would, and end it afterwards."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_server", *arguments], env=dict(env)
    )
    async with Client(stdio_client(server), mode=era, elicitation_callback=user) as client:
        yield client


@contextlib.asynccontextmanager
async def over_http(
    url: str, *, token: str | None = None, era: str = "2026-07-28", user: Asked | None = None
) -> AsyncIterator[Client]:
    """Connect to a server that runs."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=HANG_S, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=era, elicitation_callback=user) as client,
    ):
        yield client


@contextlib.contextmanager
def running_server(
    env: Mapping[str, str], *arguments: str, end: signal.Signals = signal.SIGTERM
) -> Iterator[str]:
    """Run a server over HTTP on a free port, and end it with a signal; gives its URL."""
    command = [sys.executable, "-m", "mcp_server", "--http", "--port", "0", *arguments]
    process = subprocess.Popen(
        command, env={"PATH": "/usr/bin:/bin", **env}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, f"the server ended with {process.wait()}"
        yield url
    finally:
        process.send_signal(end)
        process.wait(HANG_S)
        process.stdout.close()


def settings(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return settings that keep a server's files below a folder of the test."""
    return {
        "COMFYFORM_STATE_DIR": str(tmp_path / "state"),
        "COMFYFORM_OUTPUT_DIR": str(tmp_path / "outputs"),
        **more,
    }


def text_of(result: CallToolResult) -> str:
    """Return an answer's words."""
    return "\n".join(block.text for block in result.content if block.type == "text")


def data_of(result: CallToolResult) -> dict[str, Any]:
    """Return an answer's structured content; a tool error fails the test."""
    assert not result.is_error, text_of(result)
    assert isinstance(result.structured_content, dict)
    return result.structured_content
