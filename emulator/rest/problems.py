"""How REST v2 says no: problem documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


class Problem(Exception):
    """A refusal of REST v2, in its words.

    Source: REST v2 openapi, `ErrorResponse` and the shared responses.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def to_json(self) -> dict[str, Any]:
        """Return the problem document."""
        document: dict[str, Any] = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            # Newer Pythons call it "Unprocessable Content".
            document["title"] = "Unprocessable Entity"
        if self.errors:
            document["errors"] = self.errors
        return document


def not_found() -> Problem:
    """Refuse an id that does not exist, or belongs to another account."""
    return Problem(404, "resource not found")


def conflict(detail: str) -> Problem:
    """Refuse what is valid by the schema and breaks a rule."""
    return Problem(400, detail)


def invalid(*errors: str) -> Problem:
    """Refuse what breaks the schema; each error names its place from `$`, the body."""
    return Problem(422, "Request validation failed.", list(errors))


def unprocessable(detail: str) -> Problem:
    """Refuse what RunPod answers with 422 although the schema allows it."""
    return Problem(422, detail)
