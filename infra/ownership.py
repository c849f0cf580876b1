"""Who owns which object at RunPod, decided from the stack's state. Pure.

RunPod has no labels, and names are not unique, so an object's name alone says
nothing about who made it. Three rules follow:

- An object that Pulumi makes gets a name that only one creation in one state
  can have (`creation_name`). After a create that was cut off, the next attempt
  at the same creation derives the same name, and finds the object.
- An id that the state holds is never taken over.
- An id that another entry of the state holds is never deleted (`holders`).

What the engine calls in which order, and what survives a kill, is in
``tests/infra/test_ownership.py``, which holds these rules on the real engine.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.naming import SUFFIX_DIGITS

_PROVIDER: Final = "pulumi:providers:pulumi-python"


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource of the state.

    Attributes:
        replaced: a newer entry has taken its place, and its object is to be deleted.
    """

    urn: str
    id: str
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class StackState:
    """What a stack's state says about ownership.

    Attributes:
        identity: the random id of the stack's dynamic provider; another state has another one. None before
            the first ``up``: the engine stores it before it makes anything.
    """

    identity: str | None
    entries: frozenset[Entry]

    @classmethod
    def parse(cls, deployment: Mapping[str, Any]) -> "StackState":
        """Read the ``deployment`` of ``pulumi stack export``."""
        resources = deployment.get("resources") or ()
        entries = frozenset(
            Entry(each["urn"], each["id"], bool(each.get("delete")))
            for each in resources
            if each.get("id") and each.get("custom") and not each.get("external")
        )
        providers = [each for each in resources if each["type"] == _PROVIDER and not each.get("delete")]
        # The provider that most resources share first, then a stable order.
        providers.sort(key=lambda each: (not each["urn"].endswith("::default"), each["urn"]))
        return cls(providers[0]["id"] if providers else None, entries)

    def ids(self) -> frozenset[str]:
        """Return the ids of all entries."""
        return frozenset(entry.id for entry in self.entries)

    def current(self, urn: str) -> str:
        """Return the id that a resource has now, or an empty text."""
        return next((each.id for each in self.entries if each.urn == urn and not each.replaced), "")

    def owns(self, id_: str, name: str, *, base: str, urn: str) -> bool:
        """Tell whether an object is this state's: it is recorded, or a creation that was cut off has left it.

        Args:
            id_: the object's id.
            name: its name at RunPod.
            base: how the names of the resource's objects begin.
            urn: the resource's.
        """
        if id_ in self.ids():
            return True
        return self.identity is not None and name == creation_name(
            base, self.identity, urn, self.current(urn)
        )

    def holders(self, id_: str, *, but: Collection[Entry] = ()) -> list[Entry]:
        """List the entries with an id, those that are to be deleted first."""
        found = [each for each in self.entries if each.id == id_ and each not in but]
        return sorted(found, key=lambda each: (not each.replaced, each.urn))


def creation_name(base: str, identity: str, urn: str, replaced_id: str) -> str:
    """Name the object of one creation: the same for each attempt at it, and for no other creation.

    Args:
        base: how the name begins: project, stack and logical name.
        identity: of the state.
        urn: the resource's.
        replaced_id: the id that the resource has in the state now; empty for a first creation.
    """
    digest = hashlib.sha256("|".join((identity, urn, replaced_id)).encode()).hexdigest()
    return f"{base}-{digest[:SUFFIX_DIGITS]}"
