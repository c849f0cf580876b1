"""Finds the verbs: the modules of `backend.verbs` that define ``VERB``. Each is loaded on first use."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import backend.verbs
from backend.errors import InvalidArgument

if TYPE_CHECKING:  # nothing of a verb is loaded before its first call
    from backend.verbs.verb import Verb


def find(name: str) -> "Verb":
    """Return a verb.

    Raises:
        InvalidArgument: unknown; the hint lists those that exist.
    """
    verb = _load(name) if isinstance(name, str) else None
    if verb is None:
        raise InvalidArgument(f"Unknown verb {name!r}.", hint=f"Choose one of {', '.join(verbs())}.")
    return verb


@cache
def verbs() -> "Mapping[str, Verb]":
    """Return all verbs, by name, in alphabetical order."""
    return {name: verb for name in sorted(_modules()) if (verb := _load(name)) is not None}


@cache
def _load(name: str) -> "Verb | None":
    import importlib

    if name not in _modules():
        return None
    module = importlib.import_module(f"{backend.verbs.__name__}.{name}")
    verb: Verb | None = getattr(module, "VERB", None)
    return verb


@cache
def _modules() -> frozenset[str]:
    import pkgutil

    return frozenset(
        module.name for module in pkgutil.iter_modules(backend.verbs.__path__) if not module.ispkg
    )
