"""Configuration snippets: what to paste into which file of which MCP client.

No snippet holds a secret: a server that the client starts reads them from the
file that ``--env-file`` names, and for one that runs already the snippet names
a variable. So a client's configuration may be shown and shared.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend.errors import InvalidArgument, NotSupported

NAME: Final = "comfyform"
TOKEN: Final = "COMFYFORM_MCP_TOKEN"  # noqa: S105  # the variable's name


@dataclass(frozen=True, slots=True)
class Client:
    """An MCP client, as its documentation stood in November 2026.

    Attributes:
        title: what people call it.
        where: the file that the snippet goes into.
        local: gives the snippet for a server that the client starts, from its command line.
        remote: gives the snippet for a server that runs already, from its URL; None where the
            client's file cannot name one.
    """

    title: str
    where: str
    local: Callable[[list[str]], str]
    remote: Callable[[str], str] | None


def command(*, env_file: Path | None = None, registry: Path | None = None) -> list[str]:
    """Return the command line that starts this installation's server from any folder."""
    line = [sys.executable, "-m", "mcp_server"]
    if env_file is not None:
        line += ["--env-file", str(env_file.resolve())]
    if registry is not None:
        line += ["--registry", str(registry.resolve())]
    return line


def _json(*path: str, **server: Any) -> str:
    value: Any = server
    for key in reversed(path):
        value = {key: value}
    return json.dumps(value, indent=2, ensure_ascii=False)


def _started(line: list[str]) -> dict[str, Any]:
    return {"command": line[0], "args": line[1:]}


def _with(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _vscode_remote(url: str) -> str:
    asks = {"type": "promptString", "id": "token", "description": TOKEN, "password": True}
    server = {"type": "http", "url": url, "headers": _with("${input:token}")}
    return _json(inputs=[asks], servers={NAME: server})


def _toml(**values: Any) -> str:
    # Of these types, what is JSON is TOML too.
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[mcp_servers.{NAME}]", *lines])


CLIENTS: Final[Mapping[str, Client]] = {
    "claude-code": Client(
        "Claude Code",
        ".mcp.json in your project",
        lambda line: _json("mcpServers", NAME, **_started(line)),
        lambda url: _json("mcpServers", NAME, type="http", url=url, headers=_with(f"${{{TOKEN}}}")),
    ),
    "claude-desktop": Client(
        "Claude Desktop",
        "claude_desktop_config.json (Settings, Developer, Edit Config)",
        lambda line: _json("mcpServers", NAME, **_started(line)),
        None,
    ),
    "codex": Client(
        "Codex",
        "~/.codex/config.toml",
        lambda line: _toml(**_started(line), tool_timeout_sec=120),
        lambda url: _toml(url=url, bearer_token_env_var=TOKEN, tool_timeout_sec=120),
    ),
    "cursor": Client(
        "Cursor",
        "~/.cursor/mcp.json, or .cursor/mcp.json in your project",
        lambda line: _json("mcpServers", NAME, **_started(line)),
        lambda url: _json("mcpServers", NAME, url=url, headers=_with(f"${{env:{TOKEN}}}")),
    ),
    "vscode": Client(
        "VS Code",
        ".vscode/mcp.json in your project",
        lambda line: _json("servers", NAME, type="stdio", **_started(line)),
        _vscode_remote,
    ),
    "windsurf": Client(
        "Windsurf",
        "~/.codeium/windsurf/mcp_config.json",
        lambda line: _json("mcpServers", NAME, **_started(line)),
        lambda url: _json("mcpServers", NAME, serverUrl=url, headers=_with(f"${{env:{TOKEN}}}")),
    ),
    "zed": Client(
        "Zed",
        "~/.config/zed/settings.json",
        lambda line: _json("context_servers", NAME, source="custom", **_started(line)),
        lambda url: _json("context_servers", NAME, url=url, headers=_with(f"<{TOKEN}>")),
    ),
}


def snippet(client: str, *, env_file: Path | None, registry: Path | None, url: str | None) -> str:
    """Return one client's snippet.

    Args:
        client: a key of `CLIENTS`.
        env_file: settings for the server.
        registry: the models wanted.
        url: of a server that runs already; then the other two do not matter.

    Raises:
        InvalidArgument: the client is unknown.
        NotSupported: its file cannot name a running server.
    """
    known = CLIENTS.get(client)
    if known is None:
        raise InvalidArgument(f"Unknown client {client!r}.", hint=f"Choose one of {', '.join(CLIENTS)}.")
    if url is None:
        return known.local(command(env_file=env_file, registry=registry))
    if known.remote is None:
        raise NotSupported(
            f"{known.title} takes no address of a running server from {known.where}.",
            hint="Leave out the address: it can start the server itself.",
        )
    return known.remote(url)
