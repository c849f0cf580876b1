"""`python -m emulator`: serve a RunPod on 127.0.0.1 until stopped."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from emulator import server
from emulator.state import State, write_atomically


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, serve, and return the exit status."""
    options = parser().parse_args(argv)
    state = State(options.state, dict(options.image), dict(options.secret))
    # uvicorn raises a signal again when it has shut down: stopping it is no failure.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: None)
    # asyncio turns Nagle's algorithm off only where the protocol is named: else each answer takes 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", options.port))
    except OSError as error:
        print(f"error: cannot listen on 127.0.0.1:{options.port}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 2
    state.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    asyncio.run(serve(state, listener, options.env_file))
    return 0


async def serve(state: State, listener: socket.socket, env_file: Path | None) -> None:
    """Serve until a signal."""
    config = uvicorn.Config(
        server.app(state),
        log_level="error",
        access_log=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=server.KEEP_ALIVE_S,
        ws="websockets-sansio",
    )
    await Server(config, state, env_file).serve(sockets=[listener])


class Server(uvicorn.Server):
    """A uvicorn that says when it serves, and ends what the planes run before it waits for connections."""

    def __init__(self, config: uvicorn.Config, state: State, env_file: Path | None) -> None:
        super().__init__(config)
        self._state = state
        self._env_file = env_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve; the environment is the sign that requests are answered."""
        await super().startup(sockets)
        lines = "".join(f"{name}={value}\n" for name, value in self._state.environment().items())
        if self._env_file:
            write_atomically(self._env_file, lines)
        try:
            print(lines, end="", flush=True)  # noqa: T201 - it is what the program is asked for
        except BrokenPipeError:
            await self.shutdown(sockets)
            raise

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving: the workers first, because they hold connections open."""
        await self._state.close()
        await super().shutdown(sockets)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(prog="python -m emulator", description="RunPod on loopback.")
    result.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="folder that holds everything"
    )
    result.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    result.add_argument(
        "--env-file", type=Path, metavar="FILE", help="write the environment here when serving"
    )
    result.add_argument(
        "--image", type=image, action="append", default=[], metavar="NAME=COMMAND",
        help="command that stands for a container image",
    )  # fmt: skip
    result.add_argument(
        "--secret", type=pair, action="append", default=[], metavar="NAME=VALUE",
        help="a RunPod secret, for {{ RUNPOD_SECRET_NAME }} in environments",
    )  # fmt: skip
    return result


def pair(text: str) -> tuple[str, str]:
    """Split `NAME=VALUE` at its first `=`."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def image(text: str) -> tuple[str, str]:
    """Read `NAME=COMMAND`; the command must be there now, not only when a job waits for it."""
    name, command = pair(text)
    try:
        program = shlex.split(command)[0]
    except (ValueError, IndexError) as error:
        raise argparse.ArgumentTypeError(f"the command of image {name!r} cannot be read: {error}") from None
    if shutil.which(program) is None:
        raise argparse.ArgumentTypeError(f"the command of image {name!r} does not exist: {program}")
    return name, command


def program() -> int:
    """Run, and end without a word when whoever reads standard output has gone, as SIGPIPE would."""
    try:
        try:
            return main()
        finally:
            print(end="", flush=True)  # noqa: T201 - at the interpreter's end a failure would be printed
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(program())
