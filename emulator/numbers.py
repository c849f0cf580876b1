"""Reads numbers that come in as text, in a query or a header."""

from __future__ import annotations

import re


def whole_number(text: str) -> int | None:
    """Read a number of ASCII digits; None for anything else, as for "²", which `str.isdigit` accepts."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
