"""Bodies that differ in one place from a good one: no 500, nothing forbidden taken, answers documented.

Each create and update operation of REST v2 that the emulator serves; the published document is the judge
where it is at hand.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.rest import app as rest
from emulator.rest import bodies
from emulator.rest.schema import Body, ByType, Number, Rule, Text
from emulator.state import State
from tests.support import openapi

JUNK: tuple[Any, ...] = (
    None, 0, -1, 1.5, 2.0, 10**9, 10**30, 10**400, True, "", "x", "ÄÖ\u0000", "\ud800", "12.8", "²",
    [], ["x"], [None], ["a", "a"], [[]], [{}], {}, {"x": 1}, {"type": []}, {"type": {}}, {"a": "\u0000"},
)  # fmt: skip
RAW = (b"", b"{", b"[" * 100_000, b"\xff", b"NaN", b'{"size": Infinity}', b'{"size": 1e999}', b'"text"')
CONTAINER = {"image": "a/b:1", "args": "--x", "disk": 20, "env": {"A": "1"}, "ports": ["8000/http"]}
QUEUE = {"name": "e", "type": "QUEUE", **CONTAINER, "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}}
GPU = {
    **QUEUE,
    "gpu": {"pools": ["ADA_24"], "count": 1, "excludedTypes": [], "minCudaVersion": "12.8"},
    "workers": {"min": 0, "max": 0, "idleTimeout": 5},
    "dataCenterIds": ["EU-RO-1"],
    "timeout": 1000,
    "flashboot": "OFF",
}
CPU = {
    **QUEUE,
    "scaling": {"type": "REQUEST_COUNT", "requestCount": 4},
    "cpu": [{"id": "cpu3c", "vcpuCount": 2}],
    "workers": {"min": 0, "max": 0},
}
CREATES: dict[str, tuple[tuple[dict[str, Any], Rule], ...]] = {
    "/network-volumes": (({"name": "v", "size": 10, "dataCenter": "EU-RO-1"}, bodies.CREATE_VOLUME),),
    "/templates": (({"name": "t", **CONTAINER, "serverless": True}, bodies.CREATE_TEMPLATE),),
    "/registries": (({"name": "n", "username": "u", "password": "p"}, bodies.CREATE_REGISTRY),),
    "/serverless": tuple((body, bodies.create_endpoint_rules(body)[-1]) for body in (GPU, CPU)),
}
UPDATES: dict[str, tuple[tuple[dict[str, Any], Rule], ...]] = {
    "/network-volumes": (({"name": "w", "size": 20}, bodies.UPDATE_VOLUME),),
    "/templates": (({"name": "u", **CONTAINER}, bodies.UPDATE_TEMPLATE),),
    "/serverless": (
        ({name: value for name, value in GPU.items() if name != "type"}, bodies.UPDATE_ENDPOINT),
        ({name: value for name, value in CPU.items() if name != "type"}, bodies.UPDATE_ENDPOINT),
    ),
}


def known(rule: Rule) -> dict[str, Rule]:
    """Properties that a rule names."""
    match rule:
        case Body():
            return dict(rule.properties)
        case ByType():
            return {name: inner for body in rule.bodies.values() for name, inner in body.properties.items()}
    return {}


def edges(rule: Rule | None) -> list[Any]:
    """Values at the bounds of a rule."""
    match rule:
        case Text():
            return list(rule.choices)
        case Number():
            bounds = [bound for bound in (rule.minimum, rule.maximum) if bound is not None]
            return [*(bound + step for bound in bounds for step in (-1, 0, 1)), *map(float, bounds)]
    return []


def mutations(rule: Rule, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Bodies that differ from a good one in one place, at any depth."""
    for name in sorted({*known(rule), *body}):
        inner = known(rule).get(name)
        if name in body:
            yield {other: value for other, value in body.items() if other != name}
        for junk in (*JUNK, *edges(inner)):
            yield {**body, name: junk}
        part = body.get(name)
        if isinstance(part, dict) and inner is not None:
            for changed in mutations(inner, part):
                yield {**body, name: changed}
        elif isinstance(part, list) and part and isinstance(part[0], dict):
            for key in part[0]:
                for junk in JUNK:
                    yield {**body, name: [{**part[0], key: junk}]}
    yield {**body, "zzUnknown": 1}


@pytest.mark.slow
@pytest.mark.parametrize("path", CREATES)
def test_no_body_of_a_create_or_an_update_breaks_the_emulator(tmp_path: Path, path: str) -> None:
    """An exception in the plane fails the test; so does an answer that the document does not have."""
    state = State(tmp_path)
    state.limits.update({"worker_quota": 10**6})
    key = {"Authorization": f"Bearer {state.keys.api_key}", "Content-Type": "application/json"}
    transport = httpx.ASGITransport(rest.app(state), raise_app_exceptions=True)
    wrong: list[str] = []

    async def ask(http: httpx.AsyncClient, method: str, address: str, content: bytes) -> httpx.Response:
        reply = await http.request(method, address, content=content)
        if reply.status_code >= 500:
            wrong.append(f"{method} {address} {content[:200]!r}: {reply.status_code}")
        return reply

    async def judge(http: httpx.AsyncClient, method: str, address: str, body: dict[str, Any]) -> None:
        reply = await ask(http, method, address, json.dumps(body).encode())
        wrong.extend(f"{body}: {problem}" for problem in openapi.problems(method, address, reply))
        if reply.is_success and not openapi.allows(method, address, body):
            wrong.append(f"{method} {address}: taken although forbidden: {body}")
        if reply.status_code == 201:
            await http.delete(f"{path}/{reply.json()['id']}")

    async def run() -> int:
        count = 0
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator", headers=key) as http:
            for body, rule in CREATES[path]:
                for changed in (body, *mutations(rule, body)):
                    await judge(http, "POST", path, changed)
                    count += 1
            for raw in RAW:
                await ask(http, "POST", path, raw)
            for at, (body, rule) in enumerate(UPDATES.get(path, ())):
                created = await http.post(path, json=CREATES[path][at % len(CREATES[path])][0])
                address = f"{path}/{created.json()['id']}"
                for changed in (body, *mutations(rule, body)):
                    await judge(http, "PATCH", address, changed)
                    count += 1
                wrong.extend(openapi.problems("GET", address, await http.get(address)))
        return count

    assert asyncio.run(run()) > 80
    assert wrong == []


def test_a_whole_number_that_is_written_as_a_float_is_one(tmp_path: Path) -> None:
    """JSON Schema counts 2.0 as an integer; the resource shows 2."""
    state = State(tmp_path)
    transport = httpx.ASGITransport(rest.app(state))
    key = {"Authorization": f"Bearer {state.keys.api_key}"}

    async def make() -> Any:
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator", headers=key) as http:
            wish = {**CPU, "cpu": [{"id": "cpu3c", "vcpuCount": 2.0}]}
            return (await http.post("/serverless", json=wish)).json()

    created = asyncio.run(make())
    assert json.dumps(created["cpu"]) == '[{"id": "cpu3c", "vcpuCount": 2, "memory": 4}]'
