"""What a provider process shares between its calls: settings, connections, the key, one listing.

Module state on purpose: a provider instance is pickled into Pulumi's state, so
it holds nothing.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from backend.settings import Secret, Settings
from infra.provider_hooks import wait

if TYPE_CHECKING:
    from backend.flow.http_driver import Http
    from ops.runpod.api import RunPodApi

T = TypeVar("T")

NAMESPACE: Final = "comfyform"
"""Of the stack's configuration."""
KEY: Final = "runpod_api_key"
"""The key's name in the stack's configuration, and among the inputs of a provider of its own."""
_configured_key: Secret | None = None


def use_config(value: Secret | None) -> None:
    """Remember the key of the stack's config, for where the environment has none.

    The environment wins: `refresh` and `destroy` get the config of the last `up`,
    in which a rotated key would be the old one.
    """
    global _configured_key  # noqa: PLW0603  # once a provider, the same value each time
    if value:
        _configured_key = value


def settings() -> Settings:
    """Return the settings of the environment, with the config's key where it has none.

    Raises:
        ConfigError: a variable cannot be read.
    """
    found = Settings.from_env()
    return found if found.runpod_api_key else replace(found, runpod_api_key=_configured_key)


@cache
def http() -> "Http":
    """Return the driver; its waits end at Ctrl-C."""
    from backend.flow.http_driver import (
        Http,  # httpx costs a tenth of a second, and a run without changes needs none
    )

    return Http(wait=wait)


def api() -> "RunPodApi":
    """Return RunPod's control plane.

    Raises:
        MissingSetting: no API key is set.
    """
    from ops.runpod.api import RunPodApi

    found = settings()
    key = found.need("runpod_api_key", "RunPod's API wants a key")
    return RunPodApi(http(), found.runpod_rest_url, key)


class Listing(Generic[T]):
    """One listing for all reads of a run, however many resources it has.

    A listing that fails raises in each read that asked for it, and is not kept:
    a resource must never look gone because a listing failed.

    Args:
        ttl_s: how long one is good for.
    """

    def __init__(self, ttl_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._made: dict[Any, tuple[float, T]] = {}

    def get(self, key: Any, fetch: Callable[[], T]) -> T:
        """Return the listing of a key; while one caller fetches it, the others wait for that."""
        with self._lock:
            at, value = self._made.get(key) or (float("-inf"), None)
            if self._clock() - at <= self._ttl_s:
                return cast("T", value)  # it was fetched
            fetched = fetch()
            self._made[key] = (self._clock(), fetched)
            return fetched

    def forget(self, key: Any) -> None:
        """Drop a listing, after every write."""
        with self._lock:
            self._made.pop(key, None)
