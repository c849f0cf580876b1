"""Fetch a URL that a job names: over https, and never from an address that only this network can reach.

Every address that the host resolves to is checked, the connection is made to a
checked address and not to the name again (a name can resolve differently the
second time), and every redirect is checked in the same way. That is why this is
`http.client` and not the driver of ``backend``, which connects to names.
"""

import errno
import hashlib
import http.client
import math
import os
import select
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from backend.errors import InvalidArgument, SourceMissing, TransferError
from backend.flow.atomic_file import AtomicFile
from backend.validation.printable import shortened, shown
from ops.sources.ssrf_guard import Resolve, check_public, redirected, resolve_host
from worker.jobs.bounded_call import bounded_call
from worker.jobs.cancellation import StopSign
from worker.jobs.socket_cutoff import LOOK_S, OutOfTime, SocketCutoff

REDIRECTS: Final = 5
SILENCE_S: Final = 30.0
"""How long a server may send nothing."""
SLOW_S: Final = 30.0
LOWEST_RATE: Final = 16 * 1024
"""Bytes a second, over `SLOW_S`: a server below that will not send a picture in time."""
CONNECT_S: Final = 20.0
CHUNK_BYTES: Final = 1 << 18
LARGEST_BYTES: Final = 2 << 30


def checked_addresses(url: str, allow_hosts: Sequence[str], resolve: Resolve = resolve_host) -> Sequence[str]:
    """Decide whether a job may name this URL, and return the addresses it may be fetched from.

    Args:
        url: from outside.
        allow_hosts: hosts that the operator trusts, by name: plain http and private addresses are fine there.
        resolve: looks a host up; asked once, so that what was checked is what is connected to.

    Raises:
        InvalidArgument: as `ops.sources.ssrf_guard.check_public`, or for credentials or an invalid port.
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
    end: float = math.inf,
    largest_bytes: int = LARGEST_BYTES,
) -> str:
    """Fetch a URL into a file, written aside and renamed, and return its sha256.

    Args:
        url: from a job.
        to: where the file goes.
        allow_hosts: hosts that the operator trusts.
        stop: ends it within a second, whatever the server does.
        end: when the job's time is over, by `time.monotonic`.
        largest_bytes: the most that is taken.

    Raises:
        InvalidArgument: the URL, or one it redirects to, is refused.
        SourceMissing: the server does not have the file, or redirects endlessly.
        TransferError: the bytes did not come whole or in time, or are more than `largest_bytes`.
        Stopped: the job was stopped.
    """
    for _ in range(REDIRECTS + 1):
        try:
            # In a thread: the system's resolver takes neither a deadline nor a stop sign.
            addresses = bounded_call(partial(checked_addresses, url, allow_hosts), stop, end)
            with (
                SocketCutoff(stop, end) as cutoff,
                _connection(url, addresses, cutoff) as connection,
                # Closed too: until then it keeps the connection's file open.
                closing(_ask(connection, url)) as answer,
            ):
                location = answer.headers["Location"]
                if answer.status == 200:
                    return _receive(answer, url, to, largest_bytes, cutoff)
        except (OSError, http.client.HTTPException) as error:
            raise TransferError(f"{shown(url)} could not be fetched: {error}.") from error
        if answer.status not in {301, 302, 303, 307, 308} or not location:
            raise SourceMissing(
                f"{shown(url)} answered {answer.status} {shortened(answer.reason, 60)}.",
                hint="Check that the URL is right and not behind a login.",
            )
        url = redirected(url, location)
    raise SourceMissing(f"{shown(url)} redirects more than {REDIRECTS} times.")


def _connection(
    url: str, addresses: Sequence[str], cutoff: SocketCutoff
) -> closing[http.client.HTTPConnection]:
    """Make a connection that will go to one of the checked addresses, under the URL's name."""
    parts = urlsplit(url)
    kind = _SecureTo if parts.scheme == "https" else _PlainTo
    return closing(kind(parts.hostname or "", parts.port, addresses, cutoff))


class _PlainTo(http.client.HTTPConnection):
    """A connection to known addresses of a host."""

    def __init__(self, host: str, port: int | None, addresses: Sequence[str], cutoff: SocketCutoff) -> None:
        super().__init__(host, port, timeout=SILENCE_S)
        self._addresses = addresses
        self._cutoff = cutoff

    def connect(self) -> None:
        """Connect to the first address that answers."""
        self.sock = _connect(self._addresses, self.port, self._cutoff)


class _SecureTo(http.client.HTTPSConnection):
    """A TLS connection to known addresses of a host; the certificate must be the host's."""

    def __init__(self, host: str, port: int | None, addresses: Sequence[str], cutoff: SocketCutoff) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(host, port, timeout=SILENCE_S, context=self._tls)
        self._addresses = addresses
        self._cutoff = cutoff

    def connect(self) -> None:
        """Connect to the first address that answers, then secure it under the host's name."""
        plain = _connect(self._addresses, self.port, self._cutoff)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        self._cutoff.watch(self.sock)


def _connect(addresses: Sequence[str], port: int, cutoff: SocketCutoff) -> socket.socket:
    """Connect to the first address that answers, looking at the clock and the stop sign meanwhile."""
    last: OSError = OSError("no address")
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            _connect_to(connection, (address, port), cutoff)
            connection.settimeout(SILENCE_S)
            cutoff.watch(connection)
            return connection
        except OutOfTime:
            connection.close()
            raise
        except OSError as error:
            connection.close()
            last = error
        except BaseException:
            connection.close()
            raise
    raise last


def _connect_to(connection: socket.socket, address: tuple[str, int], cutoff: SocketCutoff) -> None:
    connection.setblocking(False)
    code = connection.connect_ex(address)
    waited_until = time.monotonic() + CONNECT_S
    while code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        cutoff.check()
        if time.monotonic() >= waited_until:
            code = errno.ETIMEDOUT
        elif select.select([], [connection], [], LOOK_S)[1]:
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _ask(connection: http.client.HTTPConnection, url: str) -> http.client.HTTPResponse:
    """Send the request and return the answer's head."""
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe=_IN_TARGETS)
    target = path + (f"?{quote(parts.query, safe=_IN_TARGETS)}" if parts.query else "")
    connection.request("GET", target, headers={"User-Agent": "comfyform", "Accept-Encoding": "identity"})
    return connection.getresponse()


_IN_TARGETS: Final = "/?%:@!$&'()*+,;=~-._[]"
"""What stands unchanged in a request's target; letters outside ASCII are quoted. Source: RFC 3986."""


def _receive(
    answer: http.client.HTTPResponse, url: str, to: Path, largest_bytes: int, cutoff: SocketCutoff
) -> str:
    """Write the body to a file beside its place, and put it there when it is whole."""
    digest, size = hashlib.sha256(), 0
    with AtomicFile(to, fsync=False, mode=0o600) as out:
        since, counted = time.monotonic(), 0
        # What is there, and not a whole chunk: the rate is looked at while bytes drip.
        while chunk := answer.read1(CHUNK_BYTES):
            size += len(chunk)
            if size > largest_bytes:
                raise TransferError(f"{shown(url)} is larger than {largest_bytes} bytes, the most taken.")
            cutoff.check()
            if (took := time.monotonic() - since) >= SLOW_S:
                if size - counted < LOWEST_RATE * took:
                    raise TransferError(
                        f"{shown(url)} sends less than {LOWEST_RATE} bytes a second: given up."
                    )
                since, counted = time.monotonic(), size
            digest.update(chunk)
            out.file.write(chunk)
        cutoff.check()  # a connection that was cut ends like a body without a length
        if answer.length:
            raise TransferError(f"{shown(url)} ended {answer.length} bytes too early.")
        out.commit()
    return digest.hexdigest()
