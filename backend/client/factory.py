"""Which backends there are, and how one is made from the settings."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

from backend.client.protocol import BackendFlows
from backend.errors import ConfigError
from backend.settings import BACKENDS, Settings, listed

if TYPE_CHECKING:
    from backend.client.async_client import AsyncBackend
    from backend.client.sync_client import Backend

ENTRY_POINTS: Final = "comfyform.backends"
"""Group in which a package names its backends: ``name = "module:factory"``."""

Factory = Callable[[Settings], BackendFlows]

_registered: dict[str, Factory] = {}


def register_backend(name: str, factory: Factory) -> None:
    """Make a backend known under a name, for this process.

    Args:
        name: what ``get_backend`` and ``COMFY_BACKEND`` call it.
        factory: makes its flows from the settings; raises ``MissingSetting`` where one is missing.
    """
    _registered[name] = factory


def get_backend(name: str | None = None, *, settings: Settings | None = None) -> "Backend":
    """Return a backend whose calls wait.

    Args:
        name: one of `backend.settings.BACKENDS`, one that was registered, or several with commas between,
            of which the first healthy one does each call. By default ``COMFY_BACKEND``.
        settings: by default those of the environment.

    Raises:
        ConfigError: the backend is unknown, or a setting that it needs is missing.
    """
    from backend.client.sync_client import Backend

    settings = settings or Settings.from_env()
    _start_logging(settings)
    return Backend(_flows(name, settings), deadline_s=settings.comfyform_timeout_s)


def get_async_backend(name: str | None = None, *, settings: Settings | None = None) -> "AsyncBackend":
    """Return a backend whose calls are awaited; see `get_backend`."""
    from backend.client.async_client import AsyncBackend

    settings = settings or Settings.from_env()
    _start_logging(settings)
    return AsyncBackend(_flows(name, settings), deadline_s=settings.comfyform_timeout_s)


def fallback(*names: str, settings: Settings | None = None) -> "Backend":
    """Return several backends as one: the first healthy one does each call."""
    return get_backend(",".join(names), settings=settings)


def _start_logging(settings: Settings) -> None:
    if settings.comfyform_log != "off":
        from backend.flow.logging_setup import start_logging

        start_logging(settings.comfyform_log)


def _flows(name: str | None, settings: Settings) -> BackendFlows:
    names = listed(name or settings.comfy_backend)
    chain = [_factory(part)(settings) for part in names]
    if not chain:
        raise ConfigError(
            "No backend was selected.", hint=f"Set COMFY_BACKEND to one of {', '.join(BACKENDS)}."
        )
    if len(chain) == 1:
        return chain[0]
    from backend.client.fallback import FallbackBackend

    return FallbackBackend(chain)


def _factory(name: str) -> Factory:
    if name in _registered:
        return _registered[name]
    if name in BACKENDS:
        module, _, attribute = BACKENDS[name].partition(":")
        factory: Factory = getattr(import_module(module), attribute).from_settings
        return factory
    # Looked up only now: reading the metadata of everything that is installed takes its time.
    from importlib.metadata import entry_points

    plugins = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in plugins:
        loaded: Factory = plugins[name].load()
        return loaded
    known = ", ".join(sorted({*BACKENDS, *_registered, *plugins}))
    raise ConfigError(f"Unknown backend {name!r}.", hint=f"Available: {known}.")
