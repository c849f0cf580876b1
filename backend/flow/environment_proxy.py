"""Which proxy of the environment a request goes through."""

from typing import Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def environment_proxy(place: SplitResult) -> SplitResult | None:
    """Return the proxy that the environment names for a URL, or None.

    Raises:
        ValueError: a port or an address cannot be read.
    """
    host = place.hostname or ""
    proxies = getproxies()
    named = proxies.get(place.scheme) or proxies.get("all")
    if not named or host in _LOOPBACK or proxy_bypass(f"{host}:{place.port}" if place.port else host):
        return None
    return urlsplit(named if "://" in named else f"http://{named}")


def through_proxy(url: str) -> str:
    """Return `` through the proxy HOST:PORT`` for a request that a proxy carries, else nothing.

    The proxy's login is left out.
    """
    try:
        proxy = environment_proxy(urlsplit(url))
    except ValueError:
        return ""
    return f" through the proxy {proxy.netloc.rpartition('@')[2]}" if proxy else ""
