"""The catalog: what can be rented, where, for how much, and what is free right now."""

from __future__ import annotations

from typing import TypeVar

from emulator import catalog
from emulator.document import Document
from emulator.rest.call import Answer, Call
from emulator.rest.problems import conflict, invalid, not_found
from emulator.rest.schema import quoted
from emulator.state import State

Thing = TypeVar("Thing", catalog.Gpu, catalog.Cpu, catalog.DataCenter)
GPU_PRODUCTS, CPU_PRODUCTS = ("POD", "CLUSTER", "SERVERLESS"), ("POD", "SERVERLESS")
INCLUDES = ("GPU_AVAILABILITY", "CPU_AVAILABILITY")


def gpus(state: State, call: Call) -> Answer:
    """List GPU types."""
    with_stock = _wants_availability(call, GPU_PRODUCTS)
    return 200, {"gpus": [_gpu(state, gpu, with_stock=with_stock) for gpu in catalog.GPUS]}


def gpu(state: State, call: Call) -> Answer:
    """Show a GPU type."""
    with_stock = _wants_availability(call, GPU_PRODUCTS)
    return 200, _gpu(state, _one(catalog.GPUS, call), with_stock=with_stock)


def cpus(state: State, call: Call) -> Answer:
    """List CPU flavors."""
    with_stock = _wants_availability(call, CPU_PRODUCTS)
    return 200, {"cpus": [_cpu(state, cpu, with_stock=with_stock) for cpu in catalog.CPUS]}


def cpu(state: State, call: Call) -> Answer:
    """Show a CPU flavor."""
    with_stock = _wants_availability(call, CPU_PRODUCTS)
    return 200, _cpu(state, _one(catalog.CPUS, call), with_stock=with_stock)


def data_centers(state: State, call: Call) -> Answer:
    """List data centers, filtered by region, volume tier and global networking."""
    includes = _checked_words(call, "include", INCLUDES)
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
        state, _one(catalog.DATA_CENTERS, call), _checked_words(call, "include", INCLUDES)
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


def _checked_words(call: Call, name: str, choices: tuple[str, ...]) -> list[str]:
    words = call.words(name)
    if not set(words) <= set(choices):
        raise invalid(f"$.{name}: value must be one of {quoted(choices)}")
    return words


def _wants_availability(call: Call, products: tuple[str, ...]) -> bool:
    include = _checked_words(call, "include", ("AVAILABILITY",))
    product = _checked_words(call, "product", products)
    if bool(include) != bool(product):
        raise conflict("include=AVAILABILITY and product must be given together")
    return bool(include)


def _gpu(state: State, gpu: catalog.Gpu, *, with_stock: bool) -> Document:
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
        "maxCount": {"secure": 8, "community": 0},
    }
    if with_stock:
        free = [center for center in gpu.data_centers if not is_short(state, gpu.id, gpu.pool, center)]
        document |= _stock(free, "HIGH")
        versions = [{"version": version, "available": bool(free)} for version in catalog.CUDA_VERSIONS]
        document["cudaVersions"] = versions
    return document


def _cpu(state: State, cpu: catalog.Cpu, *, with_stock: bool) -> Document:
    document: Document = {
        "id": cpu.id,
        "name": cpu.name,
        "group": cpu.group,
        "vcpu": {"min": 2, "max": cpu.max_vcpu},
        "ramGbPerVcpu": cpu.ram_gb_per_vcpu,
        "price": {"securePerVcpu": cpu.secure_usd_per_h, "serverlessPerVcpu": cpu.serverless_usd_per_h},
    }
    if with_stock:
        document |= _stock(
            [name for name in catalog.CPU_DATA_CENTERS if not is_short(state, cpu.id, name)], "HIGH"
        )
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
