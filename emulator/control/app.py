"""The emulator's own plane, `/_emulator`: reset, request log, faults, knobs, clock, state.

Never part of the emulated API. Tests and people use it to arrange what happens and to see what did.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator.control.faults import Fault, globs_overlap
from emulator.state import State

SETTABLE = {field.name for field in dataclasses.fields(Fault)} - {
    "id",
    "seen",
    "hits",
    "path",
    "method",
    "skip",
}


def app(state: State) -> Starlette:
    """Make the plane."""

    async def reset(_: Request) -> Response:
        await state.reset()
        return Response(status_code=204)

    async def requests(request: Request) -> Response:
        query = request.query_params
        return JSONResponse({"requests": state.request_log.find(query.get("method"), query.get("path"))})

    async def list_faults(_: Request) -> Response:
        return JSONResponse({"faults": [dataclasses.asdict(fault) for fault in state.faults.all()]})

    async def add_fault(request: Request) -> Response:
        fault = parse_fault(await request.json(), state.route_globs)
        if isinstance(fault, str):
            return refused(fault)
        return JSONResponse(dataclasses.asdict(state.faults.add(fault)), 201)

    async def clear_faults(_: Request) -> Response:
        state.faults.clear()
        return Response(status_code=204)

    async def remove_fault(request: Request) -> Response:
        found = state.faults.remove(int(request.path_params["fault_id"]))
        return Response(status_code=204) if found else refused("no such fault", 404)

    async def get_knobs(_: Request) -> Response:
        return JSONResponse(state.limits.to_json())

    async def set_knobs(request: Request) -> Response:
        problems = state.limits.update(await request.json())
        if problems:
            return refused("; ".join(problems))
        state.wake()
        return JSONResponse(state.limits.to_json())

    async def advance_clock(request: Request) -> Response:
        state.clock.advance(float((await request.json())["advance_s"]))
        state.wake()
        return JSONResponse({"now": state.clock.now()})

    async def get_state(_: Request) -> Response:
        return JSONResponse(state.snapshot())

    async def list_routes(_: Request) -> Response:
        return JSONResponse({"routes": sorted(set(state.route_globs))})

    return Starlette(
        routes=[
            Route("/reset", reset, methods=["POST"]),
            Route("/requests", requests),
            Route("/faults", list_faults, methods=["GET"]),
            Route("/faults", add_fault, methods=["POST"]),
            Route("/faults", clear_faults, methods=["DELETE"]),
            Route("/faults/{fault_id:int}", remove_fault, methods=["DELETE"]),
            Route("/knobs", get_knobs, methods=["GET"]),
            Route("/knobs", set_knobs, methods=["PATCH"]),
            Route("/clock", advance_clock, methods=["POST"]),
            Route("/state", get_state),
            Route("/routes", list_routes),
        ]
    )


def refused(problem: str, status: int = 422) -> Response:
    """Say what is wrong with a request to this plane."""
    return JSONResponse({"error": problem}, status)


def parse_fault(data: dict[str, Any], route_globs: list[str]) -> Fault | str:
    """Read `{"match": {"method", "path", "skip"}, "times", …}`, or say what is wrong with it.

    A pattern that no route can match is refused: its fault could never happen, and its test would prove
    nothing.
    """
    match = data.get("match", {})
    unknown = sorted(set(match) - {"method", "path", "skip"} | set(data) - SETTABLE - {"match"})
    if unknown:
        known = ", ".join(sorted(SETTABLE))
        return f"a fault has no {', '.join(unknown)}; it has match (method, path, skip) and {known}"
    path = match.get("path")
    if not path:
        return "match.path is missing: a glob over the whole path, such as /rest/v2/serverless/*"
    if not any(globs_overlap(path, glob) for glob in route_globs):
        return f"no route matches {path!r}; GET /_emulator/routes lists them"
    settings = {name: value for name, value in data.items() if name != "match"}
    if not settings.keys() - {"times", "headers", "stall_s"}:
        return "a fault must say what goes wrong: " + ", ".join(sorted(SETTABLE - {"times"}))
    problem = wrong_moment(settings, "cut") or wrong_moment(settings, "die")
    if problem:
        return problem
    return Fault(path=path, method=match.get("method"), skip=match.get("skip", 0), **settings)


def wrong_moment(settings: dict[str, Any], name: str) -> str | None:
    """Say that `cut` or `die` names no moment: it would count as hit and do nothing."""
    value = settings.get(name)
    if value in (None, "before", "after") or (name == "cut" and type(value) is int):
        return None
    numbers = ", or a number of bytes" if name == "cut" else ""
    return f'{name} is "before" or "after"{numbers}, not {value!r}'
