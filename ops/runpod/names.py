"""What to say of several objects at RunPod that have one name: names there are not unique. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from backend.errors import Conflict

if TYPE_CHECKING:
    from ops.runpod.api import Live
    from ops.runpod.specs import Spec

    S = TypeVar("S", bound=Spec)

TAKE_OVER: Final = "Declare adopt=<its id> to take it over, or another name."


def taken(found: "Sequence[Live[S]]") -> str:
    """Say that the name of these objects is taken."""
    first, ids = found[0], ", ".join(live.id for live in found)
    return f"A {first.kind.noun} called {first.name!r} exists already and is not this stack's: {ids}."


def only(found: "Sequence[Live[S]]") -> "Live[S]":
    """Return the only object of a name.

    Raises:
        Conflict: there are several.
    """
    if len(found) > 1:
        ids = ", ".join(live.id for live in found)
        raise Conflict(
            f"{len(found)} {found[0].kind.noun}s are called {found[0].name!r}: {ids}.",
            hint="Delete the ones that you do not need in RunPod's console, or declare adopt=<id> of one.",
        )
    return found[0]
