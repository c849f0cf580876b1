"""Addresses of RunPod that are not emulated: they answer JSON that says so, and what to use instead."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
GRAPHQL = "GraphQL is not emulated, and RunPod ends it early in 2027: use REST v2, /rest/v2 here"
REST_V1 = "REST v1 is not emulated, and RunPod ended it in November 2026: use REST v2, /rest/v2 here"


def routes() -> list[Route]:
    """Routes of GraphQL and REST v1, at the root and where `RUNPOD_API_BASE_URL` points."""
    return [
        Route("/graphql", graphql, methods=METHODS),
        Route("/rest/graphql", graphql, methods=METHODS),
        Route("/v1/{path:path}", rest_v1, methods=METHODS),
        Route("/rest/v1/{path:path}", rest_v1, methods=METHODS),
    ]


async def graphql(_: Request) -> Response:
    """Refuse GraphQL, in the shape of its errors and of REST's."""
    return _answer(501, "Not Implemented", GRAPHQL)


async def rest_v1(_: Request) -> Response:
    """Refuse REST v1."""
    return _answer(501, "Not Implemented", REST_V1)


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a path that no plane has."""
    assert isinstance(error, HTTPException)  # noqa: S101 - starlette calls this for nothing else
    detail = f"nothing is served at {request.url.path}; GET /_emulator/routes lists every path"
    return _answer(error.status_code, error.detail, detail, dict(error.headers or {}))


def _answer(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Build a body that clients of GraphQL (`errors`), REST v1 (`error`) and REST v2 can show."""
    sentence = f"emulator: {detail}"
    body = {
        "status": status,
        "title": title,
        "detail": sentence,
        "error": sentence,
        "errors": [{"message": sentence}],
    }
    return JSONResponse(body, status, headers)
