"""The inputs that resources have beside the fields of their spec, and whether an input is known yet."""

from collections.abc import Mapping
from typing import Final

from pulumi.output import Unknown

ADOPT: Final = "adopt"
"""An input beside the fields of the spec: the id of an object to take over instead of creating one."""
KEEP: Final = "keep_adopted"
"""Whether an object that was taken over stays at RunPod when its resource is deleted; yes by default."""
AUTO_NAME: Final = "auto_name"
"""How the name of an object begins, where the program chooses none; `check` turns it into the whole name."""
STACK: Final = "stack"
"""The stack's full name, where its short one does not identify it."""
ADOPTED: Final = "adopted"
"""In the state only: the object was taken over. It stays true when ``adopt`` leaves the program."""
BESIDE: Final = (ADOPT, KEEP, AUTO_NAME, STACK)


def is_unknown(value: object) -> bool:
    """Tell whether a value, or a part of it, is known only after another resource's creation."""
    if isinstance(value, Mapping):
        return any(map(is_unknown, value.values()))
    if isinstance(value, list):
        return any(map(is_unknown, value))
    return isinstance(value, Unknown)
