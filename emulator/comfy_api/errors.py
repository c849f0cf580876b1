"""How the Comfy API v2 says no, and how it writes times."""

from __future__ import annotations

import datetime as dt
from typing import Any

from starlette.responses import JSONResponse


class Refusal(Exception):
    """An answer in the API's error envelope."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details
        self.retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        """Render it."""
        error = {"code": self.code, "message": str(self), "details": self.details}
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return JSONResponse({"error": error}, self.status, headers)


def timestamp(seconds: float) -> str:
    """Write a time in ISO 8601."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
