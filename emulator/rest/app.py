"""REST v2: the control plane. Routes, keys, rate limits; the rules live in the modules beside it.

Source: REST v2 openapi 2.0.0; runpod/docs 2026-08-20.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emulator.rest import billing, catalog, endpoints, registries, templates, volumes, worker_logs, workers
from emulator.rest.call import Answer, Call, Handler
from emulator.rest.problems import Problem
from emulator.state import State


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the published document; without a handler it is known and answers 501."""

    id: str
    method: str
    path: str
    handler: Handler | None = None


OPERATIONS = (
    Operation("listNetworkVolumes", "GET", "/network-volumes", volumes.list_all),
    Operation("createNetworkVolume", "POST", "/network-volumes", volumes.create),
    Operation("getNetworkVolume", "GET", "/network-volumes/{id}", volumes.get),
    Operation("updateNetworkVolume", "PATCH", "/network-volumes/{id}", volumes.update),
    Operation("deleteNetworkVolume", "DELETE", "/network-volumes/{id}", volumes.delete),
    Operation("listTemplates", "GET", "/templates", templates.list_all),
    Operation("createTemplate", "POST", "/templates", templates.create),
    Operation("getTemplate", "GET", "/templates/{id}", templates.get),
    Operation("updateTemplate", "PATCH", "/templates/{id}", templates.update),
    Operation("deleteTemplate", "DELETE", "/templates/{id}", templates.delete),
    Operation("listEndpoints", "GET", "/serverless", endpoints.list_all),
    Operation("createEndpoint", "POST", "/serverless", endpoints.create),
    Operation("getEndpoint", "GET", "/serverless/{id}", endpoints.get),
    Operation("updateEndpoint", "PATCH", "/serverless/{id}", endpoints.update),
    Operation("deleteEndpoint", "DELETE", "/serverless/{id}", endpoints.delete),
    Operation("listEndpointWorkers", "GET", "/serverless/{id}/workers", workers.list_all),
    Operation("listEndpointReleases", "GET", "/serverless/{id}/releases", workers.releases),
    Operation("getWorkerLogs", "GET", "/serverless/{id}/workers/{workerId}/logs", worker_logs.stream),
    Operation("listRegistries", "GET", "/registries", registries.list_all),
    Operation("createRegistry", "POST", "/registries", registries.create),
    Operation("listDelegations", "GET", "/registries/delegations"),
    Operation("createDelegation", "POST", "/registries/delegations"),
    Operation("revokeDelegation", "DELETE", "/registries/delegations/{id}"),
    Operation("getRegistry", "GET", "/registries/{id}", registries.get),
    Operation("deleteRegistry", "DELETE", "/registries/{id}", registries.delete),
    Operation("listGpuTypes", "GET", "/catalog/gpus", catalog.gpus),
    Operation("getGpuType", "GET", "/catalog/gpus/{id}", catalog.gpu),
    Operation("listCpuTypes", "GET", "/catalog/cpus", catalog.cpus),
    Operation("getCpuType", "GET", "/catalog/cpus/{id}", catalog.cpu),
    Operation("listDataCenters", "GET", "/catalog/datacenters", catalog.data_centers),
    Operation("getDataCenter", "GET", "/catalog/datacenters/{id}", catalog.data_center),
    Operation("listPublicTemplates", "GET", "/catalog/templates", catalog.templates),
    Operation("getSshKeys", "GET", "/account/ssh-keys"),
    Operation("updateSshKeys", "PUT", "/account/ssh-keys"),
    Operation("listPods", "GET", "/pods"),
    Operation("createPod", "POST", "/pods"),
    Operation("getPod", "GET", "/pods/{id}"),
    Operation("updatePod", "PATCH", "/pods/{id}"),
    Operation("deletePod", "DELETE", "/pods/{id}"),
    Operation("getPodLogs", "GET", "/pods/{id}/logs"),
    Operation("podAction", "POST", "/pods/{id}/action"),
    Operation("listClusters", "GET", "/clusters"),
    Operation("createCluster", "POST", "/clusters"),
    Operation("getCluster", "GET", "/clusters/{id}"),
    Operation("updateCluster", "PATCH", "/clusters/{id}"),
    Operation("deleteCluster", "DELETE", "/clusters/{id}"),
    Operation("listClusterPods", "GET", "/clusters/{id}/pods"),
    Operation("listBilling", "GET", "/billing", billing.everything),
    Operation("listPodBilling", "GET", "/billing/pods", billing.pods),
    Operation("listServerlessBilling", "GET", "/billing/serverless", billing.serverless),
    Operation("listEndpointBilling", "GET", "/billing/endpoints", billing.public_endpoints),
    Operation("listNetworkVolumeBilling", "GET", "/billing/network-volumes", billing.network_volumes),
    Operation("listClusterBilling", "GET", "/billing/clusters", billing.clusters),
)


def app(state: State) -> Starlette:
    """Make the plane."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return Starlette(
        routes=[
            Route(path, _endpoint(state, operations), methods=list(operations))
            for path, operations in paths.items()
        ],
        middleware=[Middleware(Gate, state=state)],
        exception_handlers={Problem: _refuse, HTTPException: _refuse_path},
    )


def _endpoint(state: State, operations: Mapping[str, Operation]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        if operation.handler is None:
            raise Problem(
                501, f"emulator: {operation.id} ({operation.method} /v2{operation.path}) is not emulated"
            )
        body = await _body(request) if operation.method in ("POST", "PATCH", "PUT") else None
        call = Call(request.path_params, request.query_params, request.headers, body)
        return render(operation.handler(state, call))

    return answer


def render(answer: Answer) -> Response:
    """Turn what a handler gives into a response."""
    if isinstance(answer, Response):
        return answer
    status, document = answer
    if document is None:
        return Response(status_code=status)
    return Response(json.dumps(document), status, media_type="application/json")


async def _body(request: Request) -> Any:
    def no_json(_: str) -> None:
        raise ValueError

    try:
        return json.loads(await request.body(), parse_constant=no_json)
    except (ValueError, RecursionError):
        raise Problem(400, "request could not be processed") from None


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - starlette calls this for nothing else
    content = json.dumps(error.to_json())
    return Response(content, error.status, error.headers, media_type="application/problem+json")


async def _refuse_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - starlette calls this for nothing else
    detail = {404: "resource not found", 405: "The requested method is not allowed for this path."}
    problem = Problem(
        error.status_code, detail.get(error.status_code, error.detail), None, dict(error.headers or {})
    )
    return await _refuse(request, problem)


class Gate(BaseHTTPMiddleware):
    """Check the key, count the request against the limit, and number the reply."""

    def __init__(self, app: Any, state: State) -> None:
        super().__init__(app)
        self._state = state
        self._times: list[float] = []

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer a request."""
        try:
            self._authenticate(request)
            limits = self._limit()
        except Problem as problem:
            response = await _refuse(request, problem)
        else:
            response = await call_next(request)
            response.headers.update(limits)
        response.headers["x-request-id"] = str(uuid.uuid4())
        return response

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Problem(401, "missing bearer token")
        if key.strip() != self._state.keys.api_key:
            raise Problem(401, "invalid api key")
        if self._state.limits.api_key_rights == "read" and request.method not in ("GET", "HEAD"):
            raise Problem(403, "access denied")

    def _limit(self) -> dict[str, str]:
        """Count this request; return the headers, none when the caller is exempt."""
        quota = self._state.limits.rate_limit_per_minute
        if not quota:
            self._times.clear()
            return {}
        now = self._state.clock.now()
        self._times = [time for time in self._times if time > now - 60]
        resets = max(1, round(60 - (now - self._times[0]))) if self._times else 60
        left = quota - len(self._times)
        headers = {
            "RateLimit": f'"minute";r={max(0, left - 1)};t={resets}',
            "RateLimit-Policy": f'"minute";q={quota};w=60',
        }
        if left <= 0:
            raise Problem(
                429, "rate limit exceeded for the minute window", None, headers | {"Retry-After": str(resets)}
            )
        self._times.append(now)
        return headers
