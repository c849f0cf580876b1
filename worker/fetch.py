"""Fetch a URL that a job names: over https, and never from an address that only this network can reach.

Every address that the host resolves to is checked, the connection is made to a
checked address and not to the name again (a name can resolve differently the
second time), and every redirect is checked in the same way. That is why this is
`http.client` and not the driver of ``backend``, which connects to names.
"""

import hashlib
import http.client
import socket
import ssl
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from backend.errors import InvalidArgument, SourceMissing, TransferError
from backend.visible import shown
from ops.addresses import Resolve, check_public, redirected, resolve_host
from worker.stop import StopSign

REDIRECTS: Final = 5
TIMEOUT_S: Final = 60.0
CHUNK_BYTES: Final = 1 << 20
LARGEST_BYTES: Final = 2 << 30


def checked_addresses(url: str, allow_hosts: Sequence[str], resolve: Resolve = resolve_host) -> Sequence[str]:
    """Decide whether a job may name this URL, and give the addresses it may be fetched from.

    Args:
        url: from outside.
        allow_hosts: hosts that the operator trusts, by name: plain http and private addresses are fine there.
        resolve: looks a host up; asked once, so that what was checked is what is connected to.

    Raises:
        InvalidArgument: as `ops.addresses.check_public`, or it holds credentials or a port that is no number.
    """
    looked_up: dict[str, Sequence[str]] = {}

    def remember(host: str) -> Sequence[str]:
        looked_up[host] = resolve(host)
        return looked_up[host]

    check_public(url, allow_hosts=allow_hosts, resolve=remember)
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise InvalidArgument(f"{shown(url)} is refused: a job's URL may not hold a user or a password.")
    try:
        _ = parts.port
    except ValueError:
        raise InvalidArgument(f"{shown(url)} is refused: its port is not a number.") from None
    host = (parts.hostname or "").rstrip(".")
    addresses = looked_up.get(host) or remember(host)
    if not addresses:
        raise InvalidArgument(f"The host of {shown(url)} is unknown.", hint="Check its spelling.")
    return addresses


def fetch(
    url: str,
    to: Path,
    allow_hosts: Sequence[str],
    stop: StopSign,
    *,
    largest_bytes: int = LARGEST_BYTES,
) -> str:
    """Fetch a URL into a file, written aside and renamed, and give its sha256.

    Raises:
        InvalidArgument: the URL, or one it redirects to, is refused.
        SourceMissing: the server has no such file, or redirects for ever.
        TransferError: the bytes did not come whole, or are more than `largest_bytes`.
    """
    for _ in range(REDIRECTS + 1):
        addresses = checked_addresses(url, allow_hosts)
        connection = _connection(url, addresses)
        with closing(connection):
            try:
                answer = _ask(connection, url)
                if answer.status in {301, 302, 303, 307, 308} and answer.headers["Location"]:
                    url = redirected(url, answer.headers["Location"])
                    continue
                if answer.status != 200:
                    raise SourceMissing(
                        f"{shown(url)} answered {answer.status} {answer.reason}.",
                        hint="Check that the URL is right and not behind a login.",
                    )
                return _receive(answer, url, to, largest_bytes, stop)
            except (OSError, http.client.HTTPException) as error:
                raise TransferError(f"{shown(url)} could not be fetched: {error}.") from error
    raise SourceMissing(f"{shown(url)} redirects more than {REDIRECTS} times.")


def _connection(url: str, addresses: Sequence[str]) -> http.client.HTTPConnection:
    """Make a connection that will go to one of the checked addresses, under the URL's name."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return _SecureTo(host, parts.port, addresses)
    return _PlainTo(host, parts.port, addresses)


class _PlainTo(http.client.HTTPConnection):
    """A connection to known addresses of a host."""

    def __init__(self, host: str, port: int | None, addresses: Sequence[str]) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S)
        self._addresses = addresses

    def connect(self) -> None:
        """Connect to the first address that answers."""
        self.sock = _connect(self._addresses, self.port)


class _SecureTo(http.client.HTTPSConnection):
    """A TLS connection to known addresses of a host; the certificate must be the host's."""

    def __init__(self, host: str, port: int | None, addresses: Sequence[str]) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(host, port, timeout=TIMEOUT_S, context=self._tls)
        self._addresses = addresses

    def connect(self) -> None:
        """Connect to the first address that answers, then secure it under the host's name."""
        self.sock = self._tls.wrap_socket(_connect(self._addresses, self.port), server_hostname=self.host)


def _connect(addresses: Sequence[str], port: int) -> socket.socket:
    """Connect to the first address that answers."""
    last: OSError = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), TIMEOUT_S)
        except OSError as error:
            last = error
    raise last


def _ask(connection: http.client.HTTPConnection, url: str) -> http.client.HTTPResponse:
    """Send the request and give the answer's head."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"User-Agent": "comfyform", "Accept-Encoding": "identity"})
    return connection.getresponse()


def _receive(answer: http.client.HTTPResponse, url: str, to: Path, largest_bytes: int, stop: StopSign) -> str:
    """Write the body to a file beside its place, and put it there when it is whole."""
    digest, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(dir=to.parent, prefix=".fetch-", delete=False) as aside:
        part = Path(aside.name)
        try:
            while chunk := answer.read(CHUNK_BYTES):
                size += len(chunk)
                if size > largest_bytes:
                    raise TransferError(f"{shown(url)} is larger than {largest_bytes} bytes, the most taken.")
                stop.check()
                digest.update(chunk)
                aside.write(chunk)
            if answer.length:
                raise TransferError(f"{shown(url)} ended {answer.length} bytes too early.")
            aside.close()
            part.replace(to)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return digest.hexdigest()
