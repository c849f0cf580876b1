"""What ``inv mcp.*`` does."""

import sys
from pathlib import Path

from mcp_server.config_snippets import CLIENTS, snippet


def config(
    client: str = "", *, env_file: str = "", registry: str = "models-registry.yaml", url: str = ""
) -> int:
    """Print what to paste into an MCP client, so that it starts the server or finds one that runs.

    Args:
        client: claude-code, claude-desktop, codex, cursor, vscode, windsurf or zed; by default all.
        env_file: file with the settings, as "inv env --format dotenv" writes it.
        registry: the models wanted; named by its whole path, as a client starts the server anywhere.
        url: of a server that runs already, to be named instead of one that the client starts.
    """
    chosen = [client] if client else [key for key, known in CLIENTS.items() if not url or known.remote]
    for key in chosen:
        text = snippet(
            key,
            env_file=Path(env_file) if env_file else None,
            registry=Path(registry),
            url=url or None,
        )
        # Where it goes is talk and the snippet is data, so that the data alone can go into a file.
        print(f"{CLIENTS[key].title}: {CLIENTS[key].where}", file=sys.stderr, flush=True)  # noqa: T201
        print(text, flush=True)  # noqa: T201
    return 0
