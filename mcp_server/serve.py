"""Serve over standard input and output, or over HTTP."""

import hmac
import io
import ipaddress
import json
import socket
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Final, cast

from mcp.server import Server
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings

from backend.errors import ConfigError, InvalidJson, MissingSetting
from backend.settings import Secret
from backend.validation.json_reader import read_json

IDLE_S: Final = 1800.0
"""A session without a request for this long is forgotten."""
MAX_SESSIONS: Final = 1000


async def over_stdio(server: Server) -> None:
    """Serve the one client that started this process, until it closes standard input."""
    import anyio
    from mcp.server.stdio import stdio_server

    text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace")
    async with stdio_server(stdin=cast("anyio.AsyncFile[str]", _WholeTexts(anyio.wrap_file(text)))) as (
        incoming,
        outgoing,
    ):
        await server.run(incoming, outgoing, server.create_initialization_options())


class _WholeTexts:
    """Lines of JSON with each lone surrogate replaced by U+FFFD.

    JavaScript clients write one where they cut a text through an emoji. The SDK drops such a line as one that
    it cannot parse, so its request would never get an answer.
    """

    def __init__(self, lines: AsyncIterable[str]) -> None:
        self._lines = lines

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._lines:
            if "\\ud" not in line and "\\uD" not in line:
                yield line
                continue
            try:
                yield json.dumps(read_json(line)) + "\n"
            except InvalidJson:
                yield line  # the SDK says what is wrong with it


async def over_http(
    server: Server,
    *,
    host: str,
    port: int,
    token: Secret | None,
    ready: Callable[[str], None] = lambda url: print(url, flush=True),  # noqa: T201  # the one line of output
) -> None:
    """Serve any number of clients over streamable HTTP, until a signal.

    Args:
        server: what to serve.
        host: address to listen on. Off loopback a token is required.
        port: 0 for a free one.
        token: what every request must bring as ``Authorization: Bearer``.
        ready: is told the URL as soon as connections are accepted.

    Raises:
        MissingSetting: not loopback, and no token.
        ConfigError: the address cannot be listened on.
    """
    if not token and not is_loopback(host):
        raise MissingSetting(
            "COMFYFORM_MCP_TOKEN",
            f"{host} can be reached from other machines, and whoever reaches this server spends your money",
            hint="Set it to a long random value, or listen on 127.0.0.1.",
        )
    listener = _listen(host, port)
    bound = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{bound}/mcp"

    import uvicorn

    app = server.streamable_http_app(
        host=host,
        # The SDK checks Host and Origin for three names of loopback only. Off loopback the token decides.
        transport_security=_only_this_machine(shown) if is_loopback(host) else None,
        session_idle_timeout=IDLE_S,
        max_sessions=MAX_SESSIONS,
        # The SDK describes tokens by the OAuth server that issued them; a fixed token has none,
        # and without a resource URL nothing of this is published.
        auth=AuthSettings(issuer_url=url, resource_server_url=None) if token else None,  # type: ignore[arg-type]
        token_verifier=FixedToken(token) if token else None,
    )
    # A client's open stream must not keep a server alive that was told to end.
    # A client that thinks for longer than uvicorn's 5 s would send its next call on a closed connection.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=3, timeout_keep_alive=75
    )
    listening = uvicorn.Server(config)
    ready(url)
    await listening.serve(sockets=[listener])


def _only_this_machine(shown: str) -> TransportSecuritySettings:
    """Take requests only under names of this machine: a web page whose name leads here is refused.

    Args:
        shown: the address that is listened on, as it stands in a URL.
    """
    names = dict.fromkeys((shown, "127.0.0.1", "localhost", "[::1]"))
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[form for name in names for form in (f"http://{name}", f"http://{name}:*")],
    )


class FixedToken:
    """The SDK's token verifier over one secret."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def verify_token(self, token: str) -> AccessToken | None:
        """Tell whose token it is, or None when it is not ours. Takes the same time whatever differs."""
        if hmac.compare_digest(token.encode(), self._secret.reveal().encode()):
            return AccessToken(token="", client_id="owner", scopes=[])
        return None


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """Bind before serving, so that port 0 has a number and a taken port is a sentence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"Cannot listen on {host}, port {port}: {reason}.", hint="Choose another with --host and --port."
        ) from error
