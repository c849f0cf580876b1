"""Look at the models on this machine and on the volume that the settings name."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from backend.drivers import Http
from backend.errors import ConfigError, InvalidArgument
from backend.settings import Settings
from ops.hash_cache import hash_cache
from ops.inventory import Inventory
from ops.model_paths import roots
from ops.scan import Scan
from ops.scan import scan as scan_folders
from ops.store import ModelStore
from ops.stores import Transport, cache_folder, local_models, open_store

TRANSPORTS: Final[tuple[Transport, ...]] = ("job", "s3")


def scan_here(settings: Settings, *, models_dir: str = "", extra: str = "") -> Scan:
    """List this machine's models, with the hashes that are remembered.

    Args:
        settings: they name the models folder, and where hashes are remembered.
        models_dir: another models folder.
        extra: an ``extra_model_paths.yaml`` to read as well.

    Raises:
        ConfigError: there is no such folder.
    """
    folder = Path(models_dir).expanduser() if models_dir else local_models(settings)
    if not folder.is_dir():
        raise ConfigError(
            f"There is no models folder at {folder}.",
            hint="Set COMFYUI_MODELS_DIR to your ComfyUI's models folder.",
        )
    scanned = scan_folders(roots(folder, Path(extra).expanduser() if extra else None))
    with hash_cache(hashes_file(settings)) as hashes:
        return scanned.with_hashes(hashes.known(scanned.files))


def inventory_here(settings: Settings) -> Inventory | None:
    """Give this machine's models as compare reads them; None when it has no models folder."""
    return scan_here(settings).inventory() if local_models(settings).is_dir() else None


def hashes_file(settings: Settings) -> Path:
    """Give the place where hashes are remembered."""
    return cache_folder(settings) / "hashes.sqlite"


def cheapest_transport(settings: Settings) -> Transport:
    """Tell how to look at the volume: over S3 where its keys are set, which costs nothing, else by a job."""
    keys = (settings.runpod_s3_access_key_id, settings.runpod_s3_secret_access_key, settings.runpod_volume_id)
    return "s3" if all(keys) else "job"


@contextlib.contextmanager
def open_there(
    settings: Settings, transport: str, *, wait: Callable[[float], object] | None = None
) -> Iterator[ModelStore]:
    """Open the volume's models within a ``with``.

    Args:
        settings: they name the volume and hold its keys.
        transport: ``job`` or ``s3``.
        wait: how to wait, in seconds; what it raises ends whatever is waited for.

    Raises:
        InvalidArgument: there is no such transport.
        MissingSetting: a key or an id is not set.
    """
    if transport not in TRANSPORTS:
        raise InvalidArgument(f"{transport!r} is not a transport.", hint="There are job and s3.")
    kind: Transport = "s3" if transport == "s3" else "job"
    with Http(wait=wait) as http:
        yield open_store(settings, http, transport=kind)
