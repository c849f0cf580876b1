"""Load-balancer endpoints' own hosts, as a path here: known, and not emulated."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator.state import State

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def app(state: State) -> Starlette:
    """Make the plane: an endpoint that is there answers 501, any other 404."""

    async def answer(request: Request) -> Response:
        endpoint = state.resources.endpoints.get(request.path_params["endpoint_id"])
        if endpoint is None or endpoint.body["type"] != "LOAD_BALANCER":
            return JSONResponse({"status": 404, "title": "Not Found", "detail": "endpoint not found"}, 404)
        detail = "emulator: requests to LOAD_BALANCER workers are not emulated, only their endpoints"
        return JSONResponse({"status": 501, "title": "Not Implemented", "detail": detail}, 501)

    return Starlette(routes=[Route("/{endpoint_id}/{path:path}", answer, methods=METHODS)])
