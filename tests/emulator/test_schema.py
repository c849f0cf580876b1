"""The emulator's own checker against the published schemas: the same bodies are valid, the same are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from emulator.rest import bodies as rest_bodies
from emulator.rest.schema import Rule, check
from tests.support import openapi

Values = dict[str, list[Any]]

CONTAINER: Values = {
    "image": ["i", "", 1, None],
    "args": ["", "x", None],
    "disk": [1, 0, 1.5, 2.0, "1", True],
    "env": [{}, {"A": "1"}, {"A": 1}, []],
    "ports": [[], ["80/http"], [80], "80"],
    "registry": ["r", None, 1],
}
CUDA = [[], ["12.8"], ["12"], [12.8], "12.8"]
VOLUME: Values = {
    "name": ["v", "", 1],
    "size": [10, 4096, 9, 4097, 10.5, "10"],
    "dataCenter": ["EU-RO-1", "", None],
    "type": ["STANDARD", "HIGH_PERFORMANCE", "FAST", None],
    "dataCenterId": ["x"],
}
TEMPLATE: Values = CONTAINER | {
    "name": ["t", "", None],
    "mounts": [
        {},
        {"persistent": {"size": 10, "path": "/w"}},
        {"persistent": {"size": 9, "path": "/w"}},
        {"persistent": {"size": 10}},
        {"network": []},
    ],
    "serverless": [True, "yes"],
    "public": [False, 0],
    "category": ["CPU", "TPU"],
    "startSsh": [True, None],
    "startJupyter": [False],
    "allowedCudaVersions": CUDA,
    "readme": ["x"],
}
SCALING = [
    {"type": "QUEUE_DELAY", "queueDelay": 4},
    {"type": "QUEUE_DELAY", "queueDelay": 0.4},
    {"type": "QUEUE_DELAY", "requestCount": 1},
    {"type": "REQUEST_COUNT", "requestCount": 1},
    {"type": "REQUEST_COUNT", "requestCount": 0},
    {"type": "REQUEST_COUNT", "requestCount": 1, "queueDelay": 4},
    {"type": "CPU"},
    {"queueDelay": 4},
    [],
]
ENDPOINT: Values = CONTAINER | {
    "name": ["e", "", None],
    "scaling": SCALING,
    "cpu": [
        [{"id": "cpu3c", "vcpuCount": 2}],
        [{"id": "cpu3c", "vcpuCount": 2}] * 2,
        [{"id": "cpu3c", "vcpuCount": 1}],
        [{"id": "cpu3c"}],
        [{"id": "cpu3c", "vcpuCount": 2, "memory": 4}],
        [],
    ],
    "gpu": [
        {"pools": ["A"]},
        {"pools": []},
        {},
        {"excludedTypes": ["x"]},
        {"pools": ["A"], "excludedTypes": ["x", "x"]},
        {"pools": ["A"], "excludedTypes": ["-x"]},
        {"pools": ["A"], "count": 0},
        {"pools": ["A"], "minCudaVersion": ""},
        {"pools": ["A"], "minCudaVersion": "12.1"},
        {"pools": ["A"], "allowedCudaVersions": ["12"]},
        {"pools": ["A"], "cuda": 1},
    ],
    "workers": [
        {},
        {"min": 0, "max": 3, "idleTimeout": 5},
        {"min": -1},
        {"idleTimeout": 3601},
        {"standby": 1},
    ],
    "dataCenterIds": [[], ["x"], [1], "x"],
    "networkVolumes": [[], ["x"], [None]],
    "timeout": [0, -1, 1.5, "1"],
    "flashboot": ["OFF", True, "ON"],
    "templateId": ["t", ""],
    "type": ["QUEUE", "LOAD_BALANCER", "BATCH"],
    "gpuIds": ["x"],
}
REGISTRY: Values = {"name": ["r", ""], "username": ["u", 1], "password": ["p", ""], "url": ["x"]}

BODIES: dict[str, tuple[Any, Values, tuple[str, ...]]] = {
    "CreateNetworkVolumeRequest": (rest_bodies.CREATE_VOLUME, VOLUME, ("name", "size", "dataCenter")),
    "UpdateNetworkVolumeRequest": (rest_bodies.UPDATE_VOLUME, VOLUME, ()),
    "CreateTemplateRequest": (rest_bodies.CREATE_TEMPLATE, TEMPLATE, ("name", "image")),
    "UpdateTemplateRequest": (rest_bodies.UPDATE_TEMPLATE, TEMPLATE, ()),
    "CreateEndpointRequest": (
        rest_bodies.create_endpoint_rules,
        ENDPOINT,
        ("name", "type", "scaling", "image"),
    ),
    "UpdateEndpointRequest": (rest_bodies.UPDATE_ENDPOINT, ENDPOINT, ()),
    "CreateRegistryRequest": (rest_bodies.CREATE_REGISTRY, REGISTRY, ("name", "username", "password")),
}


def bodies(values: Values, base: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Draw bodies near the border: what is required, at times one short, and some fields of any value."""
    good = {name: values[name][0] for name in base}
    field = st.sampled_from(sorted(values)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(values[name]))
    )
    short = st.one_of(st.none(), st.none(), st.none(), st.sampled_from(sorted(values)))
    return st.builds(
        lambda fields, gone: {k: v for k, v in (good | dict(fields)).items() if k != gone},
        st.lists(field, max_size=3),
        short,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_the_checker_agrees_with_the_published_schema(name: str) -> None:
    """For bodies of every kind, valid here is valid there; without the document only ours is asked."""
    rule, values, base = BODIES[name]
    validator = None
    if openapi.document() is not None:
        reference = {"$ref": f"urn:rest-v2#/components/schemas/{name}"}
        validator = Draft202012Validator(reference, registry=openapi.registry())

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(bodies(values, base))
    def agrees(body: Any) -> None:
        rules: list[Rule] = rule(body) if callable(rule) else [rule]
        ours = [problem for one in rules for problem in check(one, body)]
        theirs = [error.message for error in validator.iter_errors(body)] if validator else ours

        assert (bool(ours), ours) == (bool(theirs), ours), (body, ours, theirs)

    agrees()
