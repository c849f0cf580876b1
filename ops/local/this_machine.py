"""This machine's models, found once and scanned."""

import threading
from collections.abc import Callable
from pathlib import Path

from backend.errors import ConfigError
from backend.settings import Settings
from backend.validation.user_paths import user_path
from ops.files.user_folders import cache_folder
from ops.local.comfyui_paths import with_extra
from ops.local.hash_cache import hash_cache
from ops.local.model_dirs import WAYS, LocalModels, local_models
from ops.local.scan import Root, Scan, scan
from ops.models.inventory import Inventory


class Here:
    """This machine's models: they are located once, on first use.

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
            found = LocalModels((Root(user_path(self._models_dir, "--models-dir")),), "--models-dir")
        else:
            found = local_models(self._settings)
        if self._extra:
            roots = with_extra(found.roots, user_path(self._extra, "--extra"))
            found = LocalModels(roots, f"{found.how}; {self._extra}")
        return found

    def scan(self) -> Scan:
        """Scan them, without reading any.

        Raises:
            ConfigError: the folder does not exist.
        """
        found = self.locate()
        if not found.there:
            raise ConfigError(_nowhere(found), hint=WAYS)
        self._tell(f"This machine's models: {found}.")
        return scan(found.roots)

    def known(self) -> Scan:
        """Scan them, with the hashes that are remembered.

        Raises:
            ConfigError: the folder does not exist.
        """
        scanned = self.scan()
        with hash_cache(hashes_of(self._settings)) as hashes:
            return scanned.with_hashes(hashes.known(scanned.files))

    def inventory(self) -> Inventory | None:
        """Return what compare reads, with the hashes that are remembered; None if there is no folder."""
        found = self.locate()
        if not found.there:
            self._tell(_nowhere(found))
            return None
        return self.known().inventory()


def _nowhere(found: LocalModels) -> str:
    return f"Models folder not found: {found}."


def hashes_of(settings: Settings) -> Path:
    """Return the place of the remembered hashes."""
    return cache_folder(settings) / "hashes.sqlite"
