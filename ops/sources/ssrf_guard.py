"""Which addresses a URL from outside may name, and where a redirect may lead.

Public addresses over https, and what the operator allows. A key belongs to one
scheme, host and port, and a redirect never leads from https to plain http.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urljoin, urlsplit

from backend.errors import InvalidArgument, SourceMissing
from backend.validation.printable import shown

Resolve = Callable[[str], Sequence[str]]
"""Host name → its addresses, as text."""


def resolve_host(host: str) -> Sequence[str]:
    """Ask the system for a host's addresses; none when it has none."""
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return ()


def check_public(url: str, *, allow_hosts: Sequence[str] = (), resolve: Resolve = resolve_host) -> str:
    """Return the URL back when it may be fetched for a remote client.

    A name can have another address when it is connected to: `check_peer` looks at that one.

    Args:
        url: from a job or a registry, or where a redirect leads.
        allow_hosts: hosts that are fine although private or plain http (``COMFYFORM_ALLOW_HOSTS``).
        resolve: how to look a host up.

    Raises:
        InvalidArgument: it is not an https URL, or its host is or resolves to an address that is not public.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        raise InvalidArgument(f"{shown_safely(url)} is not a URL.") from None
    if not host or parts.scheme not in {"http", "https"}:
        raise InvalidArgument(f"{shown_safely(url)} is not an https URL.")
    if host in allow_hosts:
        return url
    remedy = _remedy(host)
    if parts.scheme != "https":
        raise InvalidArgument(f"{shown_safely(url)} is plain http; only https is fetched.", hint=remedy)
    addresses = resolve(host)
    if not addresses:
        raise InvalidArgument(f"The host of {shown_safely(url)} is unknown.", hint="Check its spelling.")
    for text in addresses:
        check_peer(url, text)
    return url


def check_peer(url: str, address: str, *, allow_hosts: Sequence[str] = ()) -> None:
    """Refuse an address that a URL's host has, or that a connection for it was made to.

    Args:
        url: fit for `check_public`.
        address: of the server, as text.
        allow_hosts: as for `check_public`.

    Raises:
        InvalidArgument: the address is not public.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host not in allow_hosts and not is_public(address):
        raise InvalidArgument(
            f"{shown_safely(url)} leads to {address}, which is not a public address.", hint=_remedy(host)
        )


def _remedy(host: str) -> str:
    return f"If that is intended, add {host} to COMFYFORM_ALLOW_HOSTS."


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the public internet, also when wrapped in IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is None:
            return parsed in _GLOBAL_UNICAST and not any(parsed in block for block in _SPECIAL_IPV6)
        parsed = inner
    return (
        parsed.is_global and not parsed.is_multicast and not any(parsed in block for block in _SPECIAL_IPV4)
    )


# Written out, because the interpreter's own tables differ between its versions.
# Source: IANA, IPv4 and IPv6 Special-Purpose Address Registries, and IPv6 Global Unicast Address Assignments.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_SPECIAL_IPV6: Final = (
    ipaddress.IPv6Network("2001::/23"),  # protocol assignments, Teredo and ORCHID among them
    ipaddress.IPv6Network("2001:db8::/32"),  # documentation
    ipaddress.IPv6Network("2002::/16"),  # 6to4: it wraps any IPv4 address, and its relays are gone
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
_SPECIAL_IPV4: Final = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments
    ipaddress.IPv4Network("192.88.99.0/24"),  # relays of 6to4
)


def same_server(first: str, second: str) -> bool:
    """Tell whether two URLs have the same scheme, host and port: what a key belongs to."""
    return _server(first) == _server(second)


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def redirected(url: str, location: str) -> str:
    """Resolve a redirect.

    Args:
        url: what was asked.
        location: the answer's ``Location`` header.

    Raises:
        SourceMissing: it is not a URL, or leads from https to plain http, where the content can be read
            and changed in transit.
    """
    try:
        target = urljoin(url, location)
        scheme, host, _ = _server(target)
    except ValueError:
        scheme, host = "", None
    if scheme not in {"http", "https"} or not host:
        raise SourceMissing(f"{shown_safely(url)} redirects to something that is not a URL.")
    if scheme == "http" and urlsplit(url).scheme == "https":
        raise SourceMissing(
            f"{shown_safely(url)} redirects from https to plain http, which is refused.",
            hint="A mirror behind a TLS proxy must know that it is reached over https (X-Forwarded-Proto).",
        )
    return target


def shown_safely(url: str) -> str:
    """A URL fit for a message, also when it cannot be parsed."""
    try:
        return shown(url)
    except ValueError:
        return "The address"
