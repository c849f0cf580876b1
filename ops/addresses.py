"""Which addresses a URL from outside may name: public ones over https, and what the operator allows."""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from backend.errors import InvalidArgument
from backend.flow import shown

Resolve = Callable[[str], Sequence[str]]
"""Host name → its addresses, as text."""


def resolve_host(host: str) -> Sequence[str]:
    """Ask the system for a host's addresses; none when it has none."""
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return ()


def check_public(url: str, *, allow_hosts: Sequence[str] = (), resolve: Resolve = resolve_host) -> str:
    """Give the URL back when it may be fetched on behalf of somebody else.

    A name that changes its address between this check and the connection is not
    caught; a worker that must withstand that needs a network without a private side.

    Args:
        url: from a job or a registry, or where a redirect leads.
        allow_hosts: hosts that are fine although private or plain http (``COMFYFORM_ALLOW_HOSTS``).
        resolve: how to look a host up.

    Raises:
        InvalidArgument: it is no https URL, or its host is or resolves to an address that is not public.
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
    remedy = f"If that is intended, add {host} to COMFYFORM_ALLOW_HOSTS."
    if parts.scheme != "https":
        raise InvalidArgument(f"{shown_safely(url)} is plain http; only https is fetched.", hint=remedy)
    addresses = resolve(host)
    if not addresses:
        raise InvalidArgument(f"The host of {shown_safely(url)} is unknown.", hint="Check its spelling.")
    for text in addresses:
        if not is_public(text):
            raise InvalidArgument(
                f"{shown_safely(url)} leads to {text}, which is not a public address.", hint=remedy
            )
    return url


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the public internet, also when wrapped in IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is not None:
            parsed = inner
        elif parsed in _NAT64:
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    return parsed.is_global and not parsed.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def shown_safely(url: str) -> str:
    """A URL fit for a message, also when it cannot be parsed."""
    try:
        return shown(url)
    except ValueError:
        return "The address"
