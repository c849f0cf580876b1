"""Which addresses may be fetched from, where a redirect may lead, and which server a key belongs to."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import InvalidArgument, SourceMissing
from backend.flow import http_driver
from backend.flow.http_driver import Http
from backend.settings import Secret
from ops.download import http_client
from ops.download.range_request import RangeReader
from ops.sources.origins import Sources
from ops.sources.ssrf_guard import check_public, is_public, redirected, same_server
from tests.support.certificates import self_signed
from tests.support.ops_places import PATH, folder


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("nonsense", False),
    ],
)
def test_public_addresses(address: str, public: bool):
    """Private, local, shared and wrapped addresses are not public."""
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://example.org/x", None),
        ("http://example.org/x", "plain http"),
        ("https://inside.example/x", "leads to 10.0.0.7"),
        ("https://unknown.example/x", "is unknown"),
        ("file:///etc/passwd", "not an https URL"),
        ("https://", "not an https URL"),
        ("https://[::1", "is not a URL"),
        ("http://allowed.example/x", None),
        ("https://user:secret@inside.example/x", "https://inside.example/x leads to"),
    ],
)
def test_urls_from_outside(url: str, problem: str | None):
    """Only https to public addresses, unless the operator allows the host; no secret is repeated."""
    addresses = {"example.org": ["93.184.216.34"], "inside.example": ["93.184.216.34", "10.0.0.7"]}

    def check() -> str:
        return check_public(
            url, allow_hosts=["allowed.example"], resolve=lambda host: addresses.get(host, [])
        )

    if problem is None:
        assert check() == url
        return
    with pytest.raises(InvalidArgument) as caught:
        check()
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "::127.0.0.1",
        "fec0::1",
        "64:ff9b:1::7f00:1",
        "::ffff:0:7f00:1",
        "5f00::1",
        "3fff::1",
        "2001:db8::1",
        "2001::1",
        "2002:5db8:d822::1",
        "100::1",
        "192.88.99.1",
        "192.0.0.8",
    ],
)
def test_special_blocks_are_not_public(address: str):
    """The interpreter's own tables miss some of these, a different set in each version."""
    assert not is_public(address)


@pytest.mark.slow
@given(st.ip_addresses(v=6).filter(lambda address: int(address) >> 125 != 1))
def test_no_ipv6_address_outside_the_public_block_is_public(address: Any):
    """Public IPv6 lies in 2000::/3; outside it only wrapped public IPv4 addresses count."""
    wrapped = (address.ipv4_mapped is not None) or int(address) >> 32 == 0x64FF9B << 64
    assert wrapped or not is_public(str(address))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("https://a.example/x", "https://a.example/y", True),
        ("https://a.example/x", "https://a.example:443/x", True),
        ("https://A.example/x", "https://a.example/x", True),
        ("https://a.example/x", "http://a.example/x", False),
        ("http://a.example:8080/x", "https://a.example:8080/x", False),
        ("https://a.example/x", "https://a.example:8443/x", False),
        ("https://a.example/x", "https://b.example/x", False),
    ],
)
def test_a_key_belongs_to_scheme_host_and_port(first: str, second: str, same: bool):
    """One definition for every place that decides whether a key goes along."""
    assert same_server(first, second) is same


@pytest.mark.parametrize(
    "location", ["http://a.example/x", "//[::1", "ftp://a.example/x", "https://a.example:x/"]
)
def test_redirects_that_are_refused(location: str):
    """A step down from https, and what is not a URL: one typed error."""
    with pytest.raises(SourceMissing, match="redirects"):
        redirected("https://a.example/y?signature=secret", location)


class Mirror(BaseHTTPRequestHandler):
    """A mirror behind a TLS proxy that does not know it: over TLS it redirects to plain http on its own port.

    A file named ``late`` is redirected only when its bytes are asked for.
    """

    seen: ClassVar[list[tuple[str, str, str | None]]] = []

    def setup(self) -> None:
        # One port speaks both, by the first byte of a connection.
        self.tls = self.request.recv(1, socket.MSG_PEEK) == b"\x16"
        if self.tls:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)  # type: ignore[attr-defined]
        super().setup()

    def do_HEAD(self) -> None:
        self.seen.append(("https" if self.tls else "http", self.command, self.headers.get("Authorization")))
        if self.tls and not (self.command == "HEAD" and "late" in self.path):
            self.send_response(301)
            self.send_header("Location", f"http://{self.headers['Host']}{self.path}")
        else:
            self.send_response(200)
            self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the server closes only the connection below TLS

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve it as https://localhost with a certificate that this process trusts."""
    certificate = self_signed(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http_driver._tls.cache_clear()
    http_client._tls.cache_clear()
    Mirror.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # type: ignore[attr-defined]
        server.context.load_cert_chain(certificate)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://localhost:{server.server_port}"
        http_driver._tls.cache_clear()
        http_client._tls.cache_clear()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("file", ["x.safetensors", "late.safetensors"])
def test_a_token_never_goes_out_in_clear(file: str, mirror: str, tmp_path: Path):
    """A redirect from https to http on the same host is refused, for the first look and for the bytes."""
    with Http() as http:
        sources = Sources(http, mirror, Secret("hf_secret"), allow_hosts=("localhost",))
        with pytest.raises(SourceMissing, match="from https to plain http"):
            folder(tmp_path / "volume", sources).provision([{"path": PATH, "source": f"hf:a/b:{file}"}])

    assert Mirror.seen
    assert {(scheme, key) for scheme, _, key in Mirror.seen} == {("https", "Bearer hf_secret")}


def test_a_name_that_changes_its_address_is_caught(mirror: str, monkeypatch: pytest.MonkeyPatch):
    """Public when it is checked, this machine when it is connected to: refused before a request is sent."""
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if port is None:  # the check asks for addresses alone, a connection for its port too
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 0))]
        return real(host, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with Http() as http:
        sources = Sources(http)
        origin = sources.resolve(f"url:{mirror}/x.safetensors")
        with (
            RangeReader(origin, sources, timeout_s=5.0) as reader,
            pytest.raises(InvalidArgument, match=r"leads to 127\.0\.0\.1, which is not a public address"),
            reader.open(0, 10),
        ):
            pass

    assert Mirror.seen == []
