"""Pages: a long list goes out in parts, each with the cursor of the next."""

from collections.abc import Sequence
from typing import Final, TypeVar

from backend.errors import InvalidArgument

T = TypeVar("T")

PAGE: Final = 50
"""Entries a page: what a model can read at once without losing its thread."""


def page(entries: Sequence[T], cursor: str | None, *, size: int = PAGE) -> tuple[list[T], str | None]:
    """Cut one page out of a list.

    Args:
        entries: all of them, in an order that does not change from call to call.
        cursor: what the page before gave, or None for the first page.
        size: entries a page.

    Returns:
        The page, and the cursor of the next or None where this is the last.

    Raises:
        InvalidArgument: the cursor was not issued by this server.
    """
    if cursor is None:
        start = 0
    elif cursor.isascii() and cursor.isdigit():
        start = int(cursor)
    else:
        raise InvalidArgument(f"{cursor!r} is not a cursor.", hint="Pass the next_cursor of the page before.")
    end = start + size
    return list(entries[start:end]), str(end) if end < len(entries) else None
