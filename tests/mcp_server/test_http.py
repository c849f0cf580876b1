"""How the MCP server is reached: over HTTP, with and without a token, and from every client's snippet."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from mcp_server.config_snippets import CLIENTS, snippet
from mcp_server.serve import is_loopback
from tests.support.deadlines import HANG_S
from tests.support.mcp_sessions import ERAS, data_of, over_http, running_server, settings

pytestmark = pytest.mark.slow
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


def post(url: str, **headers: str) -> httpx.Response:
    accept = {"Accept": "application/json, text/event-stream"}
    return httpx.post(url, json=INITIALIZE, headers={**accept, **headers}, timeout=HANG_S, trust_env=False)


def test_a_token_is_asked_for_where_one_is_set(tmp_path: Path) -> None:
    """Without it, or with another, a request gets 401 and no word of what is behind."""
    with running_server(settings(tmp_path, COMFYFORM_MCP_TOKEN="s3cret")) as url:
        none, wrong = post(url), post(url, Authorization="Bearer other")
        right = post(url, Authorization="Bearer s3cret")

    assert [none.status_code, wrong.status_code, right.status_code] == [401, 401, 200]
    assert "comfyform" not in none.text


def test_a_web_page_cannot_reach_a_loopback_server(tmp_path: Path) -> None:
    """A foreign Origin and a foreign Host are refused: DNS rebinding does not help a page."""
    with running_server(settings(tmp_path)) as url:
        mine = post(url)
        page = post(url, Origin="https://evil.example")
        rebound = post(url, Host="evil.example")

    assert mine.status_code == 200
    assert page.status_code == 403
    assert rebound.status_code == 421


def test_off_loopback_a_token_is_required(tmp_path: Path) -> None:
    """The server does not start where others could spend its owner's money."""
    command = [sys.executable, "-m", "mcp_server", "--http", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, env=settings(tmp_path), capture_output=True, text=True, timeout=HANG_S)

    assert done.returncode == 2
    assert done.stderr.startswith("comfyform: COMFYFORM_MCP_TOKEN is not set: ")
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_a_sentence(tmp_path: Path) -> None:
    """It names the address and the way out."""
    with running_server(settings(tmp_path)) as url:
        port = url.rsplit(":", 1)[1].partition("/")[0]
        command = [sys.executable, "-m", "mcp_server", "--http", "--port", port]
        done = subprocess.run(command, env=settings(tmp_path), capture_output=True, text=True, timeout=HANG_S)

    assert done.returncode == 2
    assert done.stderr.startswith(f"comfyform: Cannot listen on 127.0.0.1, port {port}: ")


def test_a_wrong_setting_is_a_sentence(tmp_path: Path) -> None:
    """So is a value of a setting that means nothing."""
    env = settings(tmp_path, COMFYFORM_MCP_CONFIRM="maybe")
    done = subprocess.run(
        [sys.executable, "-m", "mcp_server"], env=env, capture_output=True, text=True, timeout=HANG_S
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "comfyform: COMFYFORM_MCP_CONFIRM is 'maybe'. It may be never, gpu, all.\n"


async def test_many_clients_share_a_server(tmp_path: Path) -> None:
    """Two clients at once over HTTP, of both eras of the protocol, each with its own answers."""
    with running_server(settings(tmp_path)) as url:
        async with over_http(url, era=ERAS[0]) as first, over_http(url, era=ERAS[1]) as second:
            one = data_of(await first.call_tool("job", {"action": "list"}))
            two = data_of(await second.call_tool("backend_status", {"backend": "runpod"}))

    assert one == {"status": "listed", "jobs": [], "next_cursor": None}
    assert [backend["backend"] for backend in two["backends"]] == ["runpod"]


def server_of(client: str, env_file: Path) -> tuple[str, tuple[str, ...]]:
    """Read the command line out of a client's snippet."""
    text = snippet(client, env_file=env_file, registry=None, url=None)
    parsed: dict[str, Any] = json.loads(text) if text.startswith("{") else tomllib.loads(text)
    [servers] = parsed.values()
    return servers["comfyform"]["command"], tuple(servers["comfyform"]["args"])


async def test_every_snippet_starts_the_server(tmp_path: Path) -> None:
    """From another folder and with nothing but what a client passes on, the settings are the file's."""
    env_file = tmp_path / "env"
    outputs = tmp_path / "where results go"
    env_file.write_text(f"COMFYFORM_OUTPUT_DIR='{outputs}'\nCOMFYFORM_STATE_DIR={tmp_path / 'state'}\n")
    events = []
    # Clients differ in the form of their files; one start for each command line that comes out of them.
    for command, arguments in {server_of(client, env_file) for client in CLIENTS}:
        parameters = StdioServerParameters(command=command, args=list(arguments), cwd=tmp_path)
        async with Client(stdio_client(parameters)) as session:
            events.append(data_of(await session.call_tool("backend_status", {"backend": "runpod"})))

    assert [data["output_dir"] for data in events] == [str(outputs)]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("a.b", False),
    ],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    """Only addresses that never leave this machine count as such."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_a_web_page_cannot_reach_the_server_under_a_name_of_its_own(tmp_path: Path, host: str) -> None:
    """DNS rebinding: a foreign Host or Origin is refused on every address of loopback."""
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        },
    }
    accept = {"Accept": "application/json, text/event-stream"}
    with (
        running_server(settings(tmp_path), "--host", host) as url,
        httpx.Client(trust_env=False) as http,
    ):
        own = http.post(url, json=hello, headers=accept)
        foreign = http.post(url, json=hello, headers={**accept, "Host": "evil.example"})
        origin = http.post(url, json=hello, headers={**accept, "Origin": "http://evil.example"})

    assert (own.status_code, foreign.status_code, origin.status_code) == (200, 421, 403)
