"""What is at RunPod already when a resource is about to be created, and what may be taken over.

Asked in a provider's ``check``, so that a preview shows it and refuses what
would fail.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from backend.errors import NotFound
from infra import provider_session
from infra.engine import progress, pulumi_state
from infra.naming import is_named_after
from infra.provider_hooks import current_urn
from infra.provider_session import Listing
from ops.runpod.api import Kind, Live
from ops.runpod.names import TAKE_OVER, taken
from ops.runpod.serialize import changes
from ops.runpod.specs import Problem, Spec, wires

_listing: Final[Listing[tuple[Live[Spec], ...]]] = Listing()


def find(kind: Kind[Spec], id_: str) -> tuple[Live[Spec] | None, list[Problem]]:
    """Find the object to take over, or report that it was not found."""
    try:
        return provider_session.api().get(kind, id_), []
    except NotFound:
        return None, [("adopt", not_found(kind, id_, _all(kind)))]


def not_found(kind: Kind[Spec], id_: str, existing: Iterable[Live[Spec]]) -> str:
    """Say that the account has no object of an id, and which objects it has."""
    names = ", ".join(f"{live.id} ({live.name})" for live in existing) or "none"
    return f"{kind.noun} {id_!r} was not found at RunPod; the account has {names}"


def misfits(live: Live[Spec], wanted: Mapping[str, Any]) -> list[Problem]:
    """Tell which wanted values an existing object can never get. Pure."""
    spec = live.kind.spec
    return [
        (name, f"{live.kind.noun} {live.id} has {live.values.get(name)!r}, not {wanted[name]!r}: {reason}")
        for name, reason in spec.replacing(live.values, wanted, _differing(live, wanted)).items()
    ]


def announce(live: Live[Spec], wanted: Mapping[str, Any], unknown: list[str]) -> None:
    """Say what is taken over, and what will change on it."""
    differing = [name for name in _differing(live, wanted) if name not in unknown]
    changed = [_change(name, live.values.get(name), wanted[name]) for name in differing]
    changed += [f"{name} (known during up)" for name in unknown if name in wires(live.kind.spec)]
    what = f"{live.kind.noun} {live.id} ({live.name!r}) is taken over"
    progress.log(f"{what}; changes: {', '.join(changed) or 'none'}", urn=current_urn(), ephemeral=False)


def refuse_taken(kind: Kind[Spec], name: str, stack: str) -> list[Problem]:
    """Refuse a name that the program chose and that another owner's object has."""
    own = pulumi_state.held(stack)
    found = [live for live in _all(kind) if live.name == name and live.id not in own]
    return [("name", f"{taken(found)} {TAKE_OVER}")] if found else []


def tell_others(kind: Kind[Spec], base: str, name: object, stack: str) -> None:
    """Warn of objects that another state of the same name has, or that an earlier one left."""
    own = pulumi_state.held(stack)
    named = [live for live in _all(kind) if is_named_after(live.name, base) and live.id not in own]
    others = [f"{live.id} ({live.name!r})" for live in named if live.name != name]
    if others:
        progress.warn(
            f"At RunPod there are {kind.noun}s of this name that no resource of the stack's state has: "
            f"{', '.join(others)}. Another state may own them, so they are left alone and a new one is made. "
            "To take one over, declare adopt=<its id>; `inv stack.import` proposes the configuration.",
            urn=current_urn(),
        )


def _all(kind: Kind[Spec]) -> tuple[Live[Spec], ...]:
    return _listing.get(kind.path, lambda: provider_session.api().list_all(kind))


def _differing(live: Live[Spec], wanted: Mapping[str, Any]) -> list[str]:
    table = wires(live.kind.spec)
    return [name for name in changes(live.kind.spec, live.values, wanted) if not table[name].secret]


def _change(name: str, old: object, new: object) -> str:
    """Show a change; of variables the names alone, because their values may be secret."""
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        before, after = dict(old or {}), dict(new or {})  # type: ignore[call-overload]  # both are mappings
        keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        return f"{name} ({', '.join(keys)})"
    return f"{name} {old!r} → {new!r}"
