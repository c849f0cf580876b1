"""A volume's models, opened for a command: the store, and the sign that ends its waits."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backend.errors import InvalidArgument
from backend.flow.http_driver import Http
from backend.settings import Settings
from ops.local.model_dirs import Locate
from ops.runpod.transports import Transport
from ops.stores.model_store import ModelStore
from ops.stores.open import open_store
from ops.stores.queue_notice import QueueWatch


@dataclass(frozen=True, slots=True)
class Remote:
    """An open store, and the sign that makes its waits end."""

    store: ModelStore
    stop: threading.Event


@contextlib.contextmanager
def open_remote(
    settings: Settings,
    transport: str,
    *,
    stop: threading.Event | None = None,
    locate: Locate | None = None,
    say: Callable[[str], object] = lambda _sentence: None,
) -> Iterator[Remote]:
    """Open the volume's models within a ``with``. After ``stop`` is set, no wait goes on.

    Args:
        settings: keys and addresses.
        transport: ``job`` or ``s3``.
        stop: by default one that is never set.
        locate: finds this machine's models, for ``s3``; by default as the settings say.
        say: told when no worker takes a job for a while.
    """
    if transport not in ("job", "s3"):
        raise InvalidArgument(f"Unknown transport {transport!r}.", hint="Choose job or s3.")
    kind: Transport = "job" if transport == "job" else "s3"
    stop = stop or threading.Event()

    def wait(seconds: float) -> None:
        if stop.wait(seconds):
            raise KeyboardInterrupt

    with Http(wait=wait) as http, QueueWatch(say) as queue:
        yield Remote(open_store(settings, http, transport=kind, locate=locate, on_state=queue), stop)


def cheapest_transport(settings: Settings) -> Transport:
    """Tell how to look at the volume: over S3 where its keys are set, which costs nothing, else by a job."""
    keys = (settings.runpod_s3_access_key_id, settings.runpod_s3_secret_access_key, settings.runpod_volume_id)
    return "s3" if all(keys) else "job"
