"""Which bodies REST v2 takes: one table a request.

Source: REST v2 openapi 2.0.0, the `Create…Request` and `Update…Request` schemas.
"""

from __future__ import annotations

from emulator.rest.schema import Body, ByType, Flag, Items, Number, Rule, Strings, Text

NAME = Text(min_length=1)
CUDA = Items(Text(pattern=r"^\d+\.\d+$"))
VOLUME_TYPE = Text(choices=("STANDARD", "HIGH_PERFORMANCE"))
FLASHBOOT = Text(choices=("OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"))
CONTAINER: dict[str, Rule] = {
    "image": Text(),
    "args": Text(),
    "disk": Number(minimum=1),
    "env": Strings(),
    "ports": Items(Text()),
    "registry": Text(nullable=True),
}

CREATE_VOLUME = Body(
    {"name": NAME, "size": Number(10, 4096), "dataCenter": Text(min_length=1), "type": VOLUME_TYPE},
    required=("name", "size", "dataCenter"),
)
UPDATE_VOLUME = Body({"name": NAME, "size": Number(10, 4096)}, min_properties=1)

_TEMPLATE: dict[str, Rule] = {
    "name": NAME,
    "mounts": Body({"persistent": Body({"size": Number(10), "path": Text()}, required=("size", "path"))}),
    "serverless": Flag(),
    "public": Flag(),
    "category": Text(choices=("CPU", "NVIDIA", "AMD")),
    "startSsh": Flag(),
    "startJupyter": Flag(),
    "allowedCudaVersions": CUDA,
}
CREATE_TEMPLATE = Body({**CONTAINER, **_TEMPLATE}, required=("name", "image"), noisy_without=tuple(_TEMPLATE))
UPDATE_TEMPLATE = Body({**CONTAINER, **_TEMPLATE})

QUEUE_DELAY = Body(
    {"type": Text(choices=("QUEUE_DELAY",)), "queueDelay": Number(0.5, fraction=True)},
    required=("type", "queueDelay"),
)
REQUEST_COUNT = Body(
    {"type": Text(choices=("REQUEST_COUNT",)), "requestCount": Number(1)}, required=("type", "requestCount")
)
_GPU: dict[str, Rule] = {
    "pools": Items(Text(), min_items=1),
    "excludedTypes": Items(Text(pattern=r"^\s*[^-\s]"), unique=True),
    "count": Number(1),
    "allowedCudaVersions": CUDA,
    "minCudaVersion": Text(pattern=r"^\d+\.\d+$"),
}
_CPU = Body({"id": Text(min_length=1), "vcpuCount": Number(2)}, required=("id", "vcpuCount"))
_ENDPOINT: dict[str, Rule] = {
    "name": NAME,
    "scaling": ByType({"QUEUE_DELAY": QUEUE_DELAY, "REQUEST_COUNT": REQUEST_COUNT}),
    "workers": Body({"min": Number(0), "max": Number(0), "idleTimeout": Number(1, 3600)}),
    "cpu": Items(_CPU, min_items=1, unique=True),
    "dataCenterIds": Items(Text()),
    "networkVolumes": Items(Text()),
    "timeout": Number(),
    "flashboot": FLASHBOOT,
}
_CREATE_ENDPOINT: dict[str, Rule] = {
    **_ENDPOINT,
    "type": Text(choices=("QUEUE", "LOAD_BALANCER")),
    "gpu": Body(_GPU, required=("pools",)),
    "templateId": Text(min_length=1),
}
CREATE_ENDPOINT = Body(
    {**CONTAINER, **_CREATE_ENDPOINT},
    required=("name", "type", "scaling"),
    noisy_without=tuple(_CREATE_ENDPOINT),
)
CREATE_ENDPOINT_FROM_IMAGE = Body(
    CREATE_ENDPOINT.properties,
    required=("image", "name", "type", "scaling"),
    noisy_without=CREATE_ENDPOINT.noisy_without,
)
"""The same without `templateId`."""
CREATE_LOAD_BALANCER = Body({**CREATE_ENDPOINT.properties, "scaling": REQUEST_COUNT})
"""What is asked of a `LOAD_BALANCER` besides."""


def create_endpoint_rules(body: object) -> list[Body]:
    """Return what a body to create an endpoint must fulfil, by its `templateId` and `type`."""
    requested = body if isinstance(body, dict) else {}
    rules = [CREATE_ENDPOINT if "templateId" in requested else CREATE_ENDPOINT_FROM_IMAGE]
    return [*rules, CREATE_LOAD_BALANCER] if requested.get("type") == "LOAD_BALANCER" else rules


UPDATE_ENDPOINT = Body(
    {
        **CONTAINER,
        **_ENDPOINT,
        "templateId": Text(),
        "gpu": Body(
            {**_GPU, "minCudaVersion": Text(pattern=r"^$|^\d+\.\d+$")}, needs={"excludedTypes": "pools"}
        ),
    }
)

CREATE_REGISTRY = Body(
    {"name": NAME, "username": Text(min_length=1), "password": Text(min_length=1)},
    required=("name", "username", "password"),
)
