"""What RunPod makes of a request to create or change an endpoint. Pure: values in, values out.

Source: REST v2 openapi, `CreateEndpointRequest` and `UpdateEndpointRequest` with their prose.
"""

from __future__ import annotations

from emulator import catalog
from emulator.document import Document
from emulator.rest.problems import conflict, invalid, unprocessable

CONTAINER_DEFAULTS: Document = {"image": "", "args": "", "disk": 20, "ports": [], "env": {}, "registry": None}
RELEASE_FIELDS = {
    "image": "template.imageName",
    "args": "template.dockerArgs",
    "disk": "template.containerDiskInGb",
    "env": "template.env",
    "ports": "template.ports",
    "registry": "template.containerRegistryAuthId",
    "gpu": "gpuIds",
    "cpu": "instanceIds",
    "dataCenterIds": "locations",
    "networkVolumes": "networkVolumeIds",
}
"""Fields whose change rolls out as a release → their name in the release's diff."""


def with_template(body: Document, template: Document | None) -> Document:
    """Spread a template's container settings under a body; `env` is merged by key, the body wins."""
    if template is None:
        return body
    merged = {name: template[name] for name in CONTAINER_DEFAULTS} | body
    merged["env"] = {**template["env"], **body.get("env", {})}
    return merged


def created(body: Document, template: Document | None, default_timeout_ms: int) -> Document:
    """Return the endpoint that a valid create makes, without id, urls and time.

    Raises:
        Problem: where the request breaks a rule.
    """
    if ("gpu" in body) == ("cpu" in body):
        raise conflict("exactly one of gpu or cpu must be specified")
    settings = CONTAINER_DEFAULTS | with_template(body, template)
    endpoint: Document = {"name": body["name"], "type": body["type"]}
    endpoint |= {name: settings[name] for name in CONTAINER_DEFAULTS}
    if "gpu" in body:
        seed = {}
        if template and "minCudaVersion" not in body["gpu"] and template["allowedCudaVersions"]:
            seed = {"allowedCudaVersions": template["allowedCudaVersions"]}
        endpoint["gpu"] = gpu_selection({**seed, **body["gpu"]})
    else:
        endpoint["cpu"] = cpu_selection(body["cpu"])
    workers = {"min": 0, "max": 3, "idleTimeout": 10} | body.get("workers", {})
    endpoint["workers"] = workers
    endpoint["scaling"] = body["scaling"]
    endpoint["dataCenterIds"] = body.get("dataCenterIds", [])
    endpoint["networkVolumes"] = body.get("networkVolumes", [])
    endpoint["timeout"] = body.get("timeout", default_timeout_ms)
    endpoint["flashboot"] = body.get("flashboot", "OFF")
    return settled(endpoint, asked_idle="idleTimeout" in body.get("workers", {}))


def updated(endpoint: Document, body: Document, template: Document | None) -> Document:
    """Return what a valid patch makes of an endpoint; the endpoint itself is left alone.

    Raises:
        Problem: where the request breaks a rule.
    """
    for family, other in (("gpu", "cpu"), ("cpu", "gpu")):
        if family in body and other in endpoint:
            raise conflict(f"compute family cannot be changed: {family} on a {other} endpoint")
    body = with_template(body, template)
    result = endpoint | {name: value for name, value in body.items() if name in endpoint}
    if "gpu" in body:
        result["gpu"] = patched_gpu(endpoint["gpu"], body["gpu"])
    if "cpu" in body:
        result["cpu"] = cpu_selection(body["cpu"])
    if "workers" in body:
        result["workers"] = endpoint["workers"] | body["workers"]
    return settled(result, asked_idle="idleTimeout" in body.get("workers", {}))


def settled(endpoint: Document, *, asked_idle: bool) -> Document:
    """Check what has to fit together, and leave out what does not apply."""
    queue = endpoint["type"] == "QUEUE"
    by_count = endpoint["scaling"]["type"] == "REQUEST_COUNT"
    if not queue and not by_count:
        raise invalid("$.scaling.type: value must be 'REQUEST_COUNT'")
    workers = dict(endpoint["workers"])
    if queue and by_count:
        if asked_idle:
            raise unprocessable("idleTimeout does not apply to queue-based endpoints scaling on requestCount")
        workers.pop("idleTimeout", None)
    else:
        workers.setdefault("idleTimeout", 10)
    if workers["min"] > workers["max"]:
        raise conflict("workers.min must not exceed workers.max")
    strange = [name for name in endpoint["dataCenterIds"] if name not in catalog.DATA_CENTER_IDS]
    if strange:
        raise conflict(f"unknown data centers: {', '.join(strange)}")
    return endpoint | {"workers": workers}


def gpu_selection(gpu: Document) -> Document:
    """Return an endpoint's `gpu` from a create."""
    return _checked_gpu({"count": 1, "allowedCudaVersions": [], "minCudaVersion": None} | gpu)


def patched_gpu(current: Document, gpu: Document) -> Document:
    """Return an endpoint's `gpu` after a patch: `pools` replaces the whole selection, exclusions included."""
    result = {**current, **gpu}
    if "pools" in gpu and "excludedTypes" not in gpu:
        result.pop("excludedTypes", None)
    if result["minCudaVersion"] == "":
        result["minCudaVersion"] = None
    return _checked_gpu(result)


def _checked_gpu(gpu: Document) -> Document:
    strange = [pool for pool in gpu["pools"] if pool not in catalog.POOLS]
    if strange:
        raise conflict(f"unknown GPU pools: {', '.join(strange)}")
    if gpu["allowedCudaVersions"] and gpu["minCudaVersion"]:
        raise conflict("allowedCudaVersions and minCudaVersion are mutually exclusive")
    excluded = [name.strip() for name in gpu.get("excludedTypes", [])]
    members = [kind.id for kind in catalog.types_of(gpu["pools"], [])]
    foreign = [name for name in excluded if name not in members]
    if foreign:
        raise conflict(f"excludedTypes not in the selected pools: {', '.join(foreign)}")
    if not catalog.types_of(gpu["pools"], excluded):
        raise conflict("excludedTypes leaves no GPU type in the selected pools")
    selection = {"pools": gpu["pools"]} | ({"excludedTypes": excluded} if excluded else {})
    return selection | {name: gpu[name] for name in ("count", "allowedCudaVersions", "minCudaVersion")}


def cpu_selection(cpus: list[Document]) -> list[Document]:
    """Return an endpoint's `cpu`, with the memory that each flavor brings."""
    result = []
    for required in cpus:
        flavor = catalog.cpu(required["id"])
        count = required["vcpuCount"]
        if flavor is None:
            raise conflict(f"unknown CPU flavor: {required['id']}")
        if count & (count - 1) or count > flavor.max_vcpu:
            raise conflict(f"vcpuCount must be a power of two from 2 to {flavor.max_vcpu} for {flavor.id}")
        result.append({"id": flavor.id, "vcpuCount": count, "memory": count * flavor.ram_gb_per_vcpu})
    return result


def release_diff(before: Document, after: Document) -> list[Document]:
    """Name what a change rolls out; nothing when it applies in place."""
    return [
        {"field": name, "old": before.get(field), "new": after.get(field)}
        for field, name in RELEASE_FIELDS.items()
        if before.get(field) != after.get(field)
    ]
