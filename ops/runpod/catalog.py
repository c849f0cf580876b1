"""What RunPod has for rent, and what it costs: its live catalog as values."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from ops.runpod.api import RunPodApi

Stock = Literal["NONE", "LOW", "MEDIUM", "HIGH"]


@dataclass(frozen=True, slots=True)
class GpuType:
    """A kind of GPU.

    Attributes:
        pool: the serverless pool that it belongs to, or None.
        usd_per_hour: of one, serverless, or None where it is not to be had so.
        stock: data center → how many are free; a data center that is missing has none at all.
    """

    id: str
    pool: str | None
    usd_per_hour: float | None
    stock: Mapping[str, Stock] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CpuType:
    """A flavor of CPU workers.

    Attributes:
        usd_per_vcpu_hour: serverless, or None where the catalog has no price.
    """

    id: str
    vcpus_min: int
    vcpus_max: int
    usd_per_vcpu_hour: float | None
    stock: Mapping[str, Stock] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataCenter:
    """A data center.

    Attributes:
        volume_types: the storage tiers of its network volumes, its own default first; empty: it has none.
    """

    id: str
    region: str
    volume_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """All of it, by id."""

    gpus: Mapping[str, GpuType]
    cpus: Mapping[str, CpuType]
    data_centers: Mapping[str, DataCenter]

    @property
    def pools(self) -> Mapping[str, tuple[GpuType, ...]]:
        """Pool → its GPU types."""
        found: dict[str, tuple[GpuType, ...]] = {}
        for gpu in self.gpus.values():
            if gpu.pool is not None:
                found[gpu.pool] = (*found.get(gpu.pool, ()), gpu)
        return found


def fetch(api: RunPodApi) -> Catalog:
    """Read the live catalog, with what is free for serverless now.

    Raises:
        ApiError: RunPod does not give it.
    """
    free = {"include": "AVAILABILITY", "product": "SERVERLESS"}
    with ThreadPoolExecutor(3) as pool:
        gpus = pool.submit(api.catalog, "gpus", **free)
        cpus = pool.submit(api.catalog, "cpus", **free)
        centers = pool.submit(api.catalog, "datacenters")
    return Catalog(
        gpus={gpu.id: gpu for gpu in map(_gpu, gpus.result())},
        cpus={cpu.id: cpu for cpu in map(_cpu, cpus.result())},
        data_centers={center.id: center for center in map(_data_center, centers.result())},
    )


def _gpu(body: Mapping[str, Any]) -> GpuType:
    return GpuType(str(body["id"]), body.get("pool"), _price(body, "serverless"), _stock(body))


def _cpu(body: Mapping[str, Any]) -> CpuType:
    vcpu = body.get("vcpu") or {}
    return CpuType(
        str(body["id"]),
        int(vcpu.get("min", 1)),
        int(vcpu.get("max", 1 << 10)),
        _price(body, "serverlessPerVcpu"),
        _stock(body),
    )


def _data_center(body: Mapping[str, Any]) -> DataCenter:
    return DataCenter(
        str(body["id"]), str(body.get("region", "")), tuple(body.get("networkVolumeTypes") or ())
    )


def _price(body: Mapping[str, Any], name: str) -> float | None:
    """Read a price in US dollars; one that is missing or zero is unknown."""
    value = (body.get("price") or {}).get(name)
    return float(value) if value else None


def _stock(body: Mapping[str, Any]) -> dict[str, Stock]:
    return {
        str(center["id"]): cast("Stock", center.get("availability", "NONE"))
        for center in body.get("dataCenters") or ()
    }
