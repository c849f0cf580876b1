"""The MCP server as a program: ``python -m mcp_server``.

Standard output belongs to the protocol; everything said to people goes to
standard error.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.errors import ComfyformError, ConfigError
from backend.flow.logging_setup import start_logging
from backend.settings import Settings
from ops.console import broken_pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the client leaves; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        environ = dict(os.environ)
        if options.env_file is not None:
            environ = {**read_env_file(options.env_file), **environ}
        settings = Settings.from_env(environ)
        start_logging(settings.comfyform_log)
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="comfyform: %(message)s")
        asyncio.run(_serve(settings, options))
    except ComfyformError as error:
        print(f"comfyform: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


async def _serve(settings: Settings, options: argparse.Namespace) -> None:
    from mcp_server import serve
    from mcp_server.server import make_server
    from mcp_server.server_state import Studio

    async with Studio(settings, registry=options.registry) as studio:
        server = make_server(studio)
        if options.http:
            token = settings.comfyform_mcp_token
            await serve.over_http(server, host=options.host, port=options.port, token=token)
        else:
            await serve.over_stdio(server)


def read_env_file(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines, as ``./inv env --format dotenv`` writes them.

    Raises:
        ConfigError: it cannot be read, or a line is something else; all such lines are named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigError(
            f"Cannot read {path}: {reason}.", hint="Write it with: ./inv env --format dotenv"
        ) from error
    found: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            wrong.append(str(number))
            continue
        value = value.strip()
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[name.strip()] = value[1:-1] if quoted else value
    if wrong:
        raise ConfigError(f"{path}: not NAME=value in line {', '.join(wrong)}.")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mcp_server", description="comfyform as an MCP server, over standard input and output."
    )
    parser.add_argument("--env-file", type=Path, help="NAME=value lines to add to the environment")
    parser.add_argument(
        "--registry", type=Path, default=Path("models-registry.yaml"), help="the models wanted (%(default)s)"
    )
    parser.add_argument("--http", action="store_true", help="serve over streamable HTTP instead")
    parser.add_argument("--host", default="127.0.0.1", help="address for --http (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8765, help="port for --http, 0 for a free one (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    with broken_pipe.ends_quietly():
        sys.exit(main())
