"""Read large bodies over HTTP, from the socket straight into the caller's buffer.

The project's driver, `backend.flow.http_driver.Http`, copies a body several times on its
way through httpx, which costs more processor time than the network and the disk
together. This client does GET only: no cookies, no redirects, no decoding.
Certificates and proxies are those of the driver: ``SSL_CERT_FILE``, ``HTTP_PROXY``,
``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``; servers of this machine are asked directly.
"""

import contextlib
import functools
import http.client
import logging
import ssl
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import certifi

from backend.errors import ComfyformError, ConfigError, InvalidArgument, TransferError, Unavailable
from backend.flow import Reply
from backend.flow.environment_proxy import environment_proxy, through_proxy
from backend.settings import Secret
from backend.validation.printable import shown

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
# What a URL may hold beside letters and digits; the rest is percent-encoded, and what is encoded stays.
_URL_SAFE: Final = "/?%:@!$&'()*+,;=~[]-._"
_READ_BYTES: Final = 256 * 1024
_SHOWN_BYTES: Final = 64 * 1024


class Response:
    """An answer whose body is read as it comes.

    Attributes:
        status: of HTTP.
        headers: names in lower case.
        url: fit to be shown.
    """

    def __init__(self, raw: http.client.HTTPResponse, url: str) -> None:
        self._raw = raw
        self.status = raw.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in raw.headers.items()}
        self.url = shown(url)

    @property
    def done(self) -> bool:
        """True when the body was read to its end, so that the connection can be used again."""
        return self._raw.isclosed() and not self._raw.will_close

    def readinto(self, view: memoryview) -> int:
        """Read what has arrived into a buffer, at least one byte; 0 at the end of the body.

        Raises:
            Unavailable: the connection broke, or fewer bytes came than were announced.
        """
        raw = self._raw
        with _translated(self.url):
            if raw.isclosed():
                return 0
            if raw.length is None or raw.chunked:
                data = raw.read1(len(view))
                view[: len(data)] = data
                return len(data)
            if not raw.length:
                raw.close()
                return 0
            count = raw.fp.readinto1(view[: raw.length])
            if not count:
                raise http.client.IncompleteRead(b"", raw.length)
            raw.length -= count
            if not raw.length:
                raw.close()
            return count

    def decoded(self, encoding: str, what: str, saw: Callable[[int], object]) -> Iterator[bytes]:
        """The body in chunks, decompressed where the server compressed it without being asked.

        Args:
            encoding: of the body, as ``Content-Encoding`` names it; empty for none.
            what: what is read, to begin a sentence.
            saw: called with the count of bytes that arrived.

        Raises:
            TransferError: the encoding is unknown, or is not what came.
            Unavailable: the body ended early.
        """
        if encoding not in ("", "gzip", "x-gzip", "deflate"):
            raise TransferError(
                f"{what} is sent with the encoding {encoding}, which was not requested.",
                hint="Name another address for this file, or fetch it by hand and name it as local:…",
            )
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding else None
        buffer = memoryview(bytearray(_READ_BYTES))
        while count := self.readinto(buffer):
            saw(count)
            data = bytes(buffer[:count])
            try:
                yield data if decoder is None else decoder.decompress(data)
            except zlib.error:
                raise TransferError(f"{what} is not in its declared encoding {encoding}.") from None
        if decoder is not None and not decoder.eof:
            raise Unavailable(f"{what} ended early: the compressed content is incomplete.")

    def read(self) -> Reply:
        """Read the beginning of the body, for ``backend.flow.check``."""
        buffer = bytearray(_SHOWN_BYTES)
        view, at = memoryview(buffer), 0
        with contextlib.suppress(Unavailable):  # the status says more than half a body does
            while at < len(view) and (count := self.readinto(view[at:])):
                at += count
        return Reply(status=self.status, headers=self.headers, content=bytes(view[:at]), url=self.url)


class DownloadClient:
    """Opens URLs and keeps connections for further requests. Safe to share between threads.

    Args:
        check_peer: is given a URL and the address that a connection for it was made to, before anything is
            sent, and raises where that address is refused. A proxy looks names up itself.
    """

    def __init__(self, *, check_peer: Callable[[str, str], None] = lambda _url, _address: None) -> None:
        self._check_peer = check_peer
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    @contextlib.contextmanager
    def open(
        self, url: str, *, headers: Mapping[str, str], key: Secret | None, timeout_s: float
    ) -> Iterator[Response]:
        """GET a URL and yield the answer before its body is read, within a ``with``.

        Args:
            url: http or https.
            headers: of the request.
            key: sent as a bearer token.
            timeout_s: how long the connection may be silent.

        Raises:
            Unavailable: no answer came.
            InvalidArgument: it is not a URL.
        """
        every = dict(headers) | ({"Authorization": f"Bearer {key.reveal()}"} if key else {})
        place = urlsplit(url)
        server = (place.scheme, place.netloc.rpartition("@")[2])
        start = time.monotonic()
        status = "no answer"
        try:
            connection, raw = self._ask(server, place, every, timeout_s)
            status = str(raw.status)
        finally:
            took_ms = (time.monotonic() - start) * 1000
            logger.debug(
                "GET %s (%s): %s in %.0f ms", shown(url), headers.get("Range", "whole"), status, took_ms
            )
        response = Response(raw, url)
        try:
            yield response
        finally:
            if response.done:
                with self._lock:
                    self._idle.setdefault(server, []).append(connection)
            else:
                raw.close()
                connection.close()

    def _ask(
        self, server: tuple[str, str], place: SplitResult, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request, on a kept connection where there is one that the server has not closed."""
        with _translated(place.geturl()):
            proxy = _proxy(place)
            target = quote(f"{place.path or '/'}{f'?{place.query}' if place.query else ''}", safe=_URL_SAFE)
            if proxy is not None and place.scheme == "http":
                target = f"http://{server[1]}{target}"
                headers = {**headers, **_proxy_headers(proxy)}
            while True:
                with self._lock:
                    kept = self._idle.get(server)
                    connection = kept.pop() if kept else None
                fresh = connection is None
                if connection is None:
                    connection = _connect(place, proxy, timeout_s)
                    if proxy is None:
                        self._check_address(place.geturl(), connection)
                try:
                    if connection.sock is not None:
                        connection.sock.settimeout(timeout_s)
                    connection.request("GET", target, headers=dict(headers))
                    return connection, connection.getresponse()
                except BaseException as error:
                    connection.close()
                    if fresh or not isinstance(error, ConnectionError):
                        raise

    def _check_address(self, url: str, connection: http.client.HTTPConnection) -> None:
        try:
            self._check_peer(url, str(connection.sock.getpeername()[0]))
        except BaseException:
            connection.close()
            raise


def _connect(place: SplitResult, proxy: SplitResult | None, timeout_s: float) -> http.client.HTTPConnection:
    """Connect to a server, through a proxy where there is one."""
    host, port = (place if proxy is None else proxy).hostname or "", (place if proxy is None else proxy).port
    connection: http.client.HTTPConnection
    if place.scheme == "https":
        connection = http.client.HTTPSConnection(
            host, port or (443 if proxy is None else 80), timeout=CONNECT_TIMEOUT_S, context=_tls()
        )
        if proxy is not None:
            connection.set_tunnel(place.hostname or "", place.port or 443, headers=_proxy_headers(proxy))
    elif place.scheme == "http":
        connection = http.client.HTTPConnection(host, port or 80, timeout=CONNECT_TIMEOUT_S)
    else:
        raise http.client.InvalidURL(f"expected http or https, got {place.scheme!r}")
    connection.timeout = min(CONNECT_TIMEOUT_S, timeout_s)
    connection.connect()
    connection.sock.settimeout(timeout_s)
    return connection


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates to trust; the files are read once, which takes some 20 ms."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_default_verify_paths()  # what SSL_CERT_FILE and SSL_CERT_DIR name, or the system has
    return context


def _proxy(place: SplitResult) -> SplitResult | None:
    """Return the environment's proxy for a URL, which must be of HTTP; None without one."""
    proxy = environment_proxy(place)
    if proxy is not None and (proxy.scheme != "http" or not proxy.hostname):
        raise ConfigError(
            f"Model files cannot be fetched through the proxy {shown(proxy.geturl())}.",
            hint=f"Set {place.scheme.upper()}_PROXY to an http:// proxy, "
            f"or list {place.hostname or ''} in NO_PROXY.",
        )
    return proxy


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    """The login that a proxy's address holds, as a header."""
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(login).decode()}"}


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the exceptions of sockets, TLS and http.client into ours, without a cause that holds the key."""
    try:
        yield
    except ComfyformError:
        raise
    except (http.client.InvalidURL, UnicodeError) as error:
        raise InvalidArgument(f"{shown(url)!r} is not a usable URL: {error}.") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        match error:
            case TimeoutError():
                reason = "it did not answer in time"
            case http.client.IncompleteRead():
                reason = "the connection was closed before the end"
            case ssl.SSLCertVerificationError():
                reason = f"its certificate is not trusted ({error.verify_message})"
            case OSError():
                reason = error.strerror or str(error) or type(error).__name__
            case _:
                reason = f"it does not speak valid HTTP ({type(error).__name__})"
        raise Unavailable(
            f"GET {shown(url)} was not answered{through_proxy(url)}: {reason}.", method="GET", url=shown(url)
        ) from None
