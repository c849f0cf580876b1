"""The snippets of ./inv mcp.config, and the command line that they start."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ConfigError, InvalidArgument, NotSupported
from mcp_server.__main__ import main, read_env_file
from mcp_server.commands import config
from mcp_server.config_snippets import CLIENTS, snippet

URL = "http://127.0.0.1:8765/mcp"


def server_of(text: str) -> dict[str, Any]:
    """Find the server's entry in a snippet, wherever the client wants it."""
    parsed = json.loads(text) if text.startswith("{") else tomllib.loads(text)
    [key] = parsed.keys() - {"inputs"}
    found: dict[str, Any] = parsed[key]["comfyform"]
    return found


@pytest.mark.parametrize("client", CLIENTS)
def test_a_snippet_starts_this_installation(client: str, tmp_path: Path) -> None:
    """It names this Python and absolute paths, so that it works from any folder."""
    text = snippet(client, env_file=tmp_path / "env", registry=tmp_path / "models.yaml", url=None)

    server = server_of(text)
    inputs = ["--env-file", str(tmp_path / "env"), "--registry", str(tmp_path / "models.yaml")]
    assert [server["command"], *server["args"]] == [sys.executable, "-m", "mcp_server", *inputs]


@pytest.mark.parametrize("client", [key for key, known in CLIENTS.items() if known.remote])
def test_a_snippet_for_a_running_server_names_the_tokens_variable(client: str) -> None:
    """It holds the address and where to find the token, never a token."""
    text = snippet(client, env_file=None, registry=None, url=URL)

    assert URL in server_of(text).values()
    assert "COMFYFORM_MCP_TOKEN" in text


def test_a_client_that_cannot_do_it_says_so() -> None:
    """An unknown client and an impossible snippet are sentences."""
    with pytest.raises(InvalidArgument, match="Choose one of claude-code, "):
        snippet("emacs", env_file=None, registry=None, url=None)
    with pytest.raises(NotSupported, match="Claude Desktop takes no address"):
        snippet("claude-desktop", env_file=None, registry=None, url=URL)


def test_the_command_prints_snippets_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """What goes where is said on stderr, so stdout can go into a file. It names this registry."""
    assert config("claude-code") == 0

    captured = capsys.readouterr()
    server = server_of(captured.out)
    assert server["command"] == sys.executable
    assert server["args"][-2:] == ["--registry", str(Path("models-registry.yaml").resolve())]
    assert captured.err == "Claude Code: .mcp.json in your project\n"
    assert config() == 0
    assert capsys.readouterr().err.count("\n") == len(CLIENTS)


def test_an_env_file_is_read_as_shells_and_dotenv_write_it(tmp_path: Path) -> None:
    """Comments, export and quotes are understood; a value may hold an equals sign."""
    path = tmp_path / "env"
    path.write_text("# mine\n\nexport A=1\nB='two words'\nC=\"x=y\"\nD=a=b\nE=\n", encoding="utf-8")

    assert read_env_file(path) == {"A": "1", "B": "two words", "C": "x=y", "D": "a=b", "E": ""}


def test_a_bad_env_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that are no setting are named by number and not quoted, for one of them may be a key."""
    path = tmp_path / "env"
    path.write_text("A=1\nrpa_SECRET\nB=2\n1x=3\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="not NAME=value in line 2, 4"):
        read_env_file(path)
    assert main(["--env-file", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "SECRET" not in error
    assert main(["--env-file", str(tmp_path / "none")]) == 2
    assert "Write it with: ./inv env" in capsys.readouterr().err
