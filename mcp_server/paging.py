"""Pages: a long list goes out in parts, each with the cursor of the next."""

from collections.abc import Sequence
from typing import Final, TypeVar

from backend.errors import InvalidArgument
from backend.validation.printable import quoted

T = TypeVar("T")

PAGE: Final = 50
"""Entries a page: what a model can read at once without losing its thread."""

MAX_CURSOR_DIGITS: Final = 9


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
    start = start_of(cursor)
    return list(entries[start : start + size]), next_cursor(start, size, len(entries))


def start_of(cursor: str | None) -> int:
    """Return how many entries the pages before have; errors as for `page`."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= MAX_CURSOR_DIGITS):
        raise InvalidArgument(
            f"{quoted(cursor)} is not a cursor.", hint="Pass the next_cursor of the page before."
        )
    return int(cursor)


def next_cursor(start: int, size: int, total: int) -> str | None:
    """Return the cursor of the page after the one at ``start``; None where that is the last."""
    return str(start + size) if start + size < total else None
