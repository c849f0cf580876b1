"""What an operation of REST v2 is given and gives: no HTTP in the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from emulator.document import Document
from emulator.rest.problems import invalid
from emulator.rest.schema import Rule, check, settled
from emulator.state import State


@dataclass(frozen=True, slots=True)
class Call:
    """A request: path and query parameters, headers, and the parsed body (None where there is none)."""

    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any

    @property
    def id(self) -> str:
        """The id in the path."""
        return self.params["id"]

    def checked(self, *rules: Rule) -> Document:
        """Return the body, valid by every rule.

        Raises:
            Problem: 422 with every failure of the first rule that it breaks.
        """
        body: Document = self.body
        for rule in rules:
            problems = check(rule, self.body)
            if problems:
                raise invalid(*problems)
            body = settled(rule, body)
        return body

    def words(self, name: str) -> list[str]:
        """Return a comma-separated query parameter as a list."""
        return [word.strip() for word in self.query.get(name, "").split(",") if word.strip()]


Answer = tuple[int, Document | None] | Response
"""Status and body; a `Response` only where the body is a stream."""
Handler = Callable[[State, Call], Answer]
