"""Which proxy of the environment a request goes through, to name it when it fails."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def through_proxy(url: str) -> str:
    """Return `` through the proxy HOST:PORT`` for a request that a proxy carries, else nothing.

    The proxy's login is left out.
    """
    try:
        place = urlsplit(url)
        host = place.hostname or ""
        proxies = getproxies()
        named = proxies.get(place.scheme) or proxies.get("all")
        if not named or host in _LOOPBACK or proxy_bypass(f"{host}:{place.port}" if place.port else host):
            return ""
        proxy = urlsplit(named if "://" in named else f"http://{named}")
        return f" through the proxy {proxy.netloc.rpartition('@')[2]}"
    except ValueError:
        return ""
