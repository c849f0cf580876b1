"""The catalog: what can be rented, where, for how much, and what is free right now."""

from __future__ import annotations

from typing import TypeVar

from emulator import catalog
from emulator.document import Document
from emulator.rest import catalog_query
from emulator.rest.call import Answer, Call
from emulator.rest.catalog_query import CpuScope, GpuScope
from emulator.rest.problems import invalid, not_found
from emulator.state import State

Thing = TypeVar("Thing", catalog.Gpu, catalog.Cpu, catalog.DataCenter)
MOST_GPUS = 8
"""On one machine, of every type here."""
INCLUDES = ("GPU_AVAILABILITY", "CPU_AVAILABILITY")


def gpus(state: State, call: Call) -> Answer:
    """List GPU types; with countries, those that have a data center there."""
    scope = catalog_query.gpu_scope(call)
    found = [gpu for gpu in catalog.GPUS if scope is None or scope.centers(gpu.data_centers)]
    return 200, {"gpus": [_gpu(state, gpu, scope) for gpu in found]}


def gpu(state: State, call: Call) -> Answer:
    """Show a GPU type."""
    scope = catalog_query.gpu_scope(call)
    return 200, _gpu(state, _one(catalog.GPUS, call), scope)


def cpus(state: State, call: Call) -> Answer:
    """List CPU flavors."""
    scope = catalog_query.cpu_scope(call)
    return 200, {"cpus": [_cpu(state, cpu, scope) for cpu in catalog.CPUS]}


def cpu(state: State, call: Call) -> Answer:
    """Show a CPU flavor."""
    scope = catalog_query.cpu_scope(call)
    return 200, _cpu(state, _one(catalog.CPUS, call), scope)


def data_centers(state: State, call: Call) -> Answer:
    """List data centers, filtered by region, volume tier and global networking."""
    includes = catalog_query.checked_words(call, "include", INCLUDES)
    regions, tiers = call.words("regions"), call.words("networkVolumeTypes")
    networked = call.query.get("globalNetwork")
    found = [
        _data_center(state, center, includes)
        for center in catalog.DATA_CENTERS
        if (not regions or center.region in regions)
        and (not tiers or set(tiers) & set(center.volumes))
        and (networked is None or (networked == "true") == center.global_network)
        and not call.words("compliance")
    ]
    return 200, {"dataCenters": found}


def data_center(state: State, call: Call) -> Answer:
    """Show a data center."""
    return 200, _data_center(
        state, _one(catalog.DATA_CENTERS, call), catalog_query.checked_words(call, "include", INCLUDES)
    )


def templates(_: State, call: Call) -> Answer:
    """List public templates: RunPod's own; the other sources are empty here."""
    source = call.query.get("source", "official")
    if source not in ("official", "verified", "community"):
        raise invalid("$.source: value must be one of 'official', 'verified', 'community'")
    return 200, {"templates": list(catalog.PUBLIC_TEMPLATES) if source == "official" else []}


def is_short(state: State, *names: str) -> bool:
    """Tell whether one of these (GPU type, pool, CPU flavor, data center) has no free machine."""
    return bool(set(names) & set(state.limits.shortage))


def _one(things: tuple[Thing, ...], call: Call) -> Thing:
    for thing in things:
        if thing.id == call.id:
            return thing
    raise not_found()


def _gpu(state: State, gpu: catalog.Gpu, scope: GpuScope | None) -> Document:
    document: Document = {
        "id": gpu.id,
        "name": gpu.name,
        "pool": gpu.pool,
        "manufacturer": "NVIDIA",
        "memory": gpu.memory_gb,
        "secure": True,
        "community": False,
        "price": {
            "secure": gpu.secure_usd_per_h,
            "community": 0,
            "serverless": round(gpu.serverless_usd_per_s * 3600, 3),
        },
        "maxCount": {"secure": MOST_GPUS, "community": 0},
    }
    if scope is not None:
        versions = scope.versions(catalog.CUDA_VERSIONS)
        fits = bool(versions) and scope.cloud == "SECURE" and scope.count <= MOST_GPUS
        centers = scope.centers(gpu.data_centers) if fits else []
        free = [center for center in centers if not is_short(state, gpu.id, gpu.pool, center)]
        document |= _stock(free, "HIGH")
        document["cudaVersions"] = [{"version": version, "available": bool(free)} for version in versions]
    return document


def _cpu(state: State, cpu: catalog.Cpu, scope: CpuScope | None) -> Document:
    document: Document = {
        "id": cpu.id,
        "name": cpu.name,
        "group": cpu.group,
        "vcpu": {"min": 2, "max": cpu.max_vcpu},
        "ramGbPerVcpu": cpu.ram_gb_per_vcpu,
        "price": {"securePerVcpu": cpu.secure_usd_per_h, "serverlessPerVcpu": cpu.serverless_usd_per_h},
    }
    if scope is not None:
        centers = catalog.CPU_DATA_CENTERS if scope.vcpu_count <= cpu.max_vcpu else ()
        document |= _stock([name for name in centers if not is_short(state, cpu.id, name)], "HIGH")
    return document


def _stock(free: list[str], level: str) -> Document:
    if not free:
        return {"availability": "NONE"}
    names = {center.id: center.name for center in catalog.DATA_CENTERS}
    centers = [{"id": center, "name": names[center], "availability": level} for center in free]
    return {"availability": level, "dataCenters": centers}


def _data_center(state: State, center: catalog.DataCenter, includes: list[str]) -> Document:
    document: Document = {
        "id": center.id,
        "name": center.name,
        "region": center.region,
        "globalNetwork": center.global_network,
        "networkVolumeTypes": list(center.volumes),
        "compliance": [],
    }
    gpus = [
        _availability(gpu.id, gpu.name, short=is_short(state, gpu.id, gpu.pool, center.id))
        for gpu in catalog.GPUS
        if center.id in gpu.data_centers
    ]
    cpus = [
        # The document's example names instances here, not flavors.
        _availability(
            f"{cpu.id}-2-{2 * cpu.ram_gb_per_vcpu}", cpu.name, short=is_short(state, cpu.id, center.id)
        )
        for cpu in catalog.CPUS
        if center.id in catalog.CPU_DATA_CENTERS
    ]
    if "GPU_AVAILABILITY" in includes and gpus:
        document["gpuAvailability"] = gpus
    if "CPU_AVAILABILITY" in includes and cpus:
        document["cpuAvailability"] = cpus
    return document


def _availability(name: str, label: str, *, short: bool) -> Document:
    return {"id": name, "name": label, "availability": "NONE" if short else "HIGH"}
