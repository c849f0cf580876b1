"""What the commands on models share: settings, the volume opened, this machine looked at."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.drivers import Http
from backend.errors import ConfigError, InvalidArgument
from backend.settings import Settings
from ops.console import Console
from ops.hash_cache import hash_cache
from ops.inventory import Inventory
from ops.model_paths import roots
from ops.plan import Plan
from ops.scan import Scan, scan
from ops.show_models import show_done
from ops.store import ModelStore
from ops.stores import Transport, cache_folder, local_models, open_store
from ops.sync import Done, apply


@dataclass(frozen=True, slots=True)
class Remote:
    """An open store, and the sign that makes its waits end."""

    store: ModelStore
    stop: threading.Event


@contextlib.contextmanager
def open_remote(
    settings: Settings, transport: str, *, stop: threading.Event | None = None
) -> Iterator[Remote]:
    """Open the volume's models within a ``with``. After ``stop`` is set, no wait goes on."""
    if transport not in ("job", "s3"):
        raise InvalidArgument(f"{transport!r} is not a transport: job and s3 are.")
    kind: Transport = "job" if transport == "job" else "s3"
    stop = stop or threading.Event()

    def wait(seconds: float) -> None:
        if stop.wait(seconds):
            raise KeyboardInterrupt

    with Http(wait=wait) as http:
        yield Remote(open_store(settings, http, transport=kind), stop)


def cheapest_transport(settings: Settings) -> Transport:
    """Tell how to look at the volume: over S3 where its keys are set, which costs nothing, else by a job."""
    keys = (settings.runpod_s3_access_key_id, settings.runpod_s3_secret_access_key, settings.runpod_volume_id)
    return "s3" if all(keys) else "job"


def look_there(store: ModelStore, console: Console) -> Inventory:
    """Look at the volume, and pass on what could not be read."""
    there = store.inventory()
    for sentence in there.warnings:
        console.warn(sentence)
    return there


def look_here(settings: Settings) -> Inventory | None:
    """Look at this machine's models, with the hashes that are remembered; None when it has none."""
    return known_here(settings).inventory() if local_models(settings).is_dir() else None


def known_here(settings: Settings) -> Scan:
    """Scan the models of this machine, with the hashes that are remembered.

    Raises:
        ConfigError: there is no models folder.
    """
    scanned = scan_here(settings, "", "")
    with hash_cache(hashes_of(settings)) as hashes:
        return scanned.with_hashes(hashes.known(scanned.files))


def scan_here(settings: Settings, models_dir: str, extra: str) -> Scan:
    """Scan the models of this machine, without reading any.

    Raises:
        ConfigError: there is no such folder.
    """
    folder = Path(models_dir).expanduser() if models_dir else local_models(settings)
    if not folder.is_dir():
        raise ConfigError(
            f"There is no models folder at {folder}.",
            hint="Set COMFYUI_MODELS_DIR to your ComfyUI's models folder.",
        )
    return scan(roots(folder, Path(extra).expanduser() if extra else None))


def hashes_of(settings: Settings) -> Path:
    """Give the place of the remembered hashes."""
    return cache_folder(settings) / "hashes.sqlite"


def carry_out(plan: Plan, remote: Remote, console: Console) -> None:
    """Do what a plan says, and tell what was done, also when some of it failed or Ctrl-C came."""
    done: list[Done] = []
    try:
        with console.progress() as tell:
            apply(plan, remote.store, on_progress=tell, on_done=done.append, stop=remote.stop)
    finally:
        tell_done(plan, done, console)


def tell_done(plan: Plan, done: Sequence[Done], console: Console) -> None:
    """Give a plan and what became of it."""
    console.data({"plan": plan.to_json(), "done": [entry.to_json() for entry in done]})
    show_done(console, done)
