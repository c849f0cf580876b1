"""What the commands on models share: settings, the volume opened, this machine looked at."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.drivers import Http
from backend.errors import ConfigError, InvalidArgument
from backend.settings import Settings
from ops.console import Console
from ops.hash_cache import hash_cache
from ops.inventory import Inventory
from ops.local_models import WAYS, LocalModels, Locate, local_models
from ops.model_paths import with_extra
from ops.plan import Plan
from ops.queue_watch import QueueWatch
from ops.scan import Root, Scan, scan
from ops.show_models import show_done
from ops.store import ModelStore
from ops.stores import cache_folder, open_store
from ops.sync import Done, apply
from ops.transports import Transport


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
        stop: by default one that nobody sets.
        locate: finds this machine's models, for ``s3``; by default as the settings say.
        say: told when no worker takes a job for a while.
    """
    if transport not in ("job", "s3"):
        raise InvalidArgument(f"{transport!r} is not a transport: job and s3 are.")
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


def look_there(store: ModelStore, console: Console) -> Inventory:
    """Look at the volume, and pass on what could not be read."""
    there = store.inventory()
    for sentence in there.warnings:
        console.warn(sentence)
    return there


class Here:
    """This machine's models: where they are is found out once, when somebody needs them.

    Args:
        settings: they may say where.
        tell: told where they are when they are looked at, one sentence.
        models_dir: the models folder, whatever the settings say.
        extra: an ``extra_model_paths.yaml`` to read as well.
    """

    def __init__(
        self,
        settings: Settings,
        tell: Callable[[str], object] = lambda _sentence: None,
        *,
        models_dir: str = "",
        extra: str = "",
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._models_dir = models_dir
        self._extra = extra
        self._lock = threading.Lock()
        self._found: LocalModels | None = None

    def locate(self) -> LocalModels:
        """Say where they are; sources are resolved in threads, which may all ask this."""
        with self._lock:
            if self._found is None:
                self._found = self._located()
            return self._found

    def _located(self) -> LocalModels:
        if self._models_dir:
            found = LocalModels((Root(Path(self._models_dir).expanduser()),), "--models-dir")
        else:
            found = local_models(self._settings)
        if self._extra:
            roots = with_extra(found.roots, Path(self._extra).expanduser())
            found = LocalModels(roots, f"{found.how}; {self._extra}")
        return found

    def scan(self) -> Scan:
        """Scan them, without reading any.

        Raises:
            ConfigError: there is no such folder.
        """
        found = self.locate()
        if not found.there:
            raise ConfigError(_nowhere(found), hint=WAYS)
        self._tell(f"This machine's models: {found}.")
        return scan(found.roots)

    def known(self) -> Scan:
        """Scan them, with the hashes that are remembered.

        Raises:
            ConfigError: there is no such folder.
        """
        scanned = self.scan()
        with hash_cache(hashes_of(self._settings)) as hashes:
            return scanned.with_hashes(hashes.known(scanned.files))

    def inventory(self) -> Inventory | None:
        """Give what compare reads, with the hashes that are remembered; None where there is no folder."""
        found = self.locate()
        if not found.there:
            self._tell(_nowhere(found))
            return None
        return self.known().inventory()


def _nowhere(found: LocalModels) -> str:
    return f"There is no models folder at {found}."


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
