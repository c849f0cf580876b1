"""Find a job in a list of requests whose form is not documented, by a text that the job carries. Pure."""

from collections.abc import Mapping
from typing import Any

from backend.checks import is_id


def id_of(value: Any, key: str) -> str | None:
    """The id of the innermost object that has one and holds a text in any field, at any depth."""
    inner = _children(value)
    for item in inner:
        if (found := id_of(item, key)) is not None:
            return found
    own = value.get("id") if isinstance(value, Mapping) else None
    return str(own) if is_id(own) and _holds(value, key) else None


def _holds(value: Any, key: str) -> bool:
    return key in value if isinstance(value, str) else any(_holds(item, key) for item in _children(value))


def _children(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
