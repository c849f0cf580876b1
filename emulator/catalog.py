"""What this RunPod has for rent: GPU types and pools, CPU flavors, data centers, public templates.

A dated excerpt of RunPod's catalog, enough to place endpoints and to price them.
Source: RunPod docs 2026-08-20 (references/gpu-types, serverless/pricing), REST v2 openapi examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU type; `serverless_usd_per_s` is the flex price of its pool."""

    id: str
    name: str
    pool: str
    memory_gb: int
    serverless_usd_per_s: float
    secure_usd_per_h: float
    data_centers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cpu:
    """A CPU flavor."""

    id: str
    name: str
    group: str
    ram_gb_per_vcpu: int
    max_vcpu: int = 32
    secure_usd_per_h: float = 0.04
    serverless_usd_per_h: float = 0.03


@dataclass(frozen=True, slots=True)
class DataCenter:
    """A data center; `volumes` are the network volume tiers, the first one its default."""

    id: str
    name: str
    region: str
    volumes: tuple[str, ...] = ("STANDARD",)
    global_network: bool = True


_EU, _US = (
    ("EU-RO-1", "EU-CZ-1", "EUR-IS-1", "EUR-NO-1"),
    ("US-KS-2", "US-CA-2", "US-IL-1", "US-GA-2", "US-WA-1"),
)

GPUS = (
    Gpu("NVIDIA RTX A4000", "RTX A4000", "AMPERE_16", 16, 0.00016, 0.25, (*_EU, *_US, "CA-MTL-1")),
    Gpu("NVIDIA RTX A4500", "RTX A4500", "AMPERE_16", 20, 0.00016, 0.25, (*_EU, *_US)),
    Gpu("NVIDIA RTX 4000 Ada Generation", "RTX 4000 Ada", "AMPERE_16", 20, 0.00016, 0.26, (*_EU, *_US)),
    Gpu("NVIDIA RTX 2000 Ada Generation", "RTX 2000 Ada", "AMPERE_16", 16, 0.00016, 0.24, _EU),
    Gpu("NVIDIA L4", "L4", "AMPERE_24", 24, 0.00019, 0.39, (*_EU, *_US)),
    Gpu("NVIDIA RTX A5000", "RTX A5000", "AMPERE_24", 24, 0.00019, 0.27, (*_EU, *_US)),
    Gpu("NVIDIA GeForce RTX 3090", "RTX 3090", "AMPERE_24", 24, 0.00019, 0.46, ("EU-CZ-1", *_US)),
    Gpu("NVIDIA GeForce RTX 4090", "RTX 4090", "ADA_24", 24, 0.00031, 0.69, (*_EU, *_US, "US-TX-3")),
    Gpu("NVIDIA GeForce RTX 5090", "RTX 5090", "ADA_32_PRO", 32, 0.00044, 0.94, ("EU-RO-1", "US-IL-1")),
    Gpu("NVIDIA A40", "A40", "AMPERE_48", 48, 0.00034, 0.40, ("EU-SE-1", "US-KS-2", "CA-MTL-1")),
    Gpu("NVIDIA RTX A6000", "RTX A6000", "AMPERE_48", 48, 0.00034, 0.49, (*_EU, *_US)),
    Gpu("NVIDIA L40", "L40", "ADA_48_PRO", 48, 0.00053, 0.99, ("EUR-NO-1", *_US)),
    Gpu("NVIDIA L40S", "L40S", "ADA_48_PRO", 48, 0.00053, 0.86, (*_EU, *_US)),
    Gpu("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", "ADA_48_PRO", 48, 0.00053, 0.77, (*_EU, *_US)),
    Gpu("NVIDIA A100 80GB PCIe", "A100 PCIe", "AMPERE_80", 80, 0.00076, 1.64, ("EU-RO-1", *_US)),
    Gpu("NVIDIA A100-SXM4-80GB", "A100 SXM", "AMPERE_80", 80, 0.00076, 1.74, ("EU-RO-1", *_US)),
    Gpu("NVIDIA H100 80GB HBM3", "H100 SXM", "ADA_80_PRO", 80, 0.00116, 2.69, ("EUR-IS-1", *_US)),
    Gpu("NVIDIA H100 PCIe", "H100 PCIe", "ADA_80_PRO", 80, 0.00116, 2.39, ("US-KS-2", "US-CA-2")),
    Gpu("NVIDIA H100 NVL", "H100 NVL", "ADA_80_PRO", 94, 0.00116, 2.79, ("US-KS-2",)),
    Gpu(
        "NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000", "BLACKWELL_96", 96, 0.00111, 1.79,
        ("EU-RO-1", "US-IL-1", "US-KS-2"),
    ),
    Gpu("NVIDIA H200", "H200 SXM", "HOPPER_141", 141, 0.00155, 3.59, ("EUR-IS-1", "US-KS-2", "US-CA-2")),
    Gpu("NVIDIA B200", "B200", "BLACKWELL_180", 180, 0.00240, 5.98, ("EUR-IS-1", "US-CA-2")),
)  # fmt: skip

CPUS = (
    Cpu("cpu3c", "Compute-Optimized", "Gen 3", 2),
    Cpu("cpu3g", "General Purpose", "Gen 3", 4),
    Cpu("cpu5c", "Compute-Optimized", "Gen 5", 2),
    Cpu("cpu5g", "General Purpose", "Gen 5", 4),
)

_BOTH = ("STANDARD", "HIGH_PERFORMANCE")
DATA_CENTERS = (
    DataCenter("EU-RO-1", "EU Romania 1", "EUROPE", _BOTH),
    DataCenter("EU-CZ-1", "EU Czechia 1", "EUROPE"),
    DataCenter("EU-NL-1", "EU Netherlands 1", "EUROPE"),
    DataCenter("EU-SE-1", "EU Sweden 1", "EUROPE"),
    DataCenter("EUR-IS-1", "Europe Iceland 1", "EUROPE"),
    DataCenter("EUR-IS-2", "Europe Iceland 2", "EUROPE", ()),
    DataCenter("EUR-IS-3", "Europe Iceland 3", "EUROPE"),
    DataCenter("EUR-NO-1", "Europe Norway 1", "EUROPE"),
    DataCenter("US-CA-2", "US California 2", "NORTH_AMERICA", _BOTH),
    DataCenter("US-GA-2", "US Georgia 2", "NORTH_AMERICA"),
    DataCenter("US-IL-1", "US Illinois 1", "NORTH_AMERICA"),
    DataCenter("US-KS-2", "US Kansas 2", "NORTH_AMERICA", ("HIGH_PERFORMANCE", "STANDARD")),
    DataCenter("US-MO-1", "US Missouri 1", "NORTH_AMERICA"),
    DataCenter("US-NE-1", "US Nebraska 1", "NORTH_AMERICA"),
    DataCenter("US-TX-3", "US Texas 3", "NORTH_AMERICA"),
    DataCenter("US-WA-1", "US Washington 1", "NORTH_AMERICA"),
    DataCenter("CA-MTL-1", "Canada Montreal 1", "NORTH_AMERICA", ()),
    DataCenter("CA-MTL-3", "Canada Montreal 3", "NORTH_AMERICA"),
    DataCenter("AP-JP-1", "Asia Pacific Japan 1", "ASIA", global_network=False),
    DataCenter("OC-AU-1", "Oceania Australia 1", "OCEANIA", (), global_network=False),
)

CPU_DATA_CENTERS = (*_EU, *_US, "EUR-IS-3", "US-TX-3", "CA-MTL-3")
CUDA_VERSIONS = ("12.4", "12.6", "12.8", "13.0")

PUBLIC_TEMPLATES: tuple[dict[str, Any], ...] = (
    {
        "id": "runpod-torch-v280",
        "name": "Runpod Pytorch 2.8.0",
        "image": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404",
        "args": "",
        "disk": 30,
        "mounts": {},
        "ports": ["8888/http", "22/tcp"],
        "env": {},
        "registry": None,
        "serverless": False,
        "public": True,
        "category": "NVIDIA",
        "startSsh": True,
        "startJupyter": True,
        "allowedCudaVersions": [],
    },
)

POOLS = frozenset(gpu.pool for gpu in GPUS)
DATA_CENTER_IDS = frozenset(center.id for center in DATA_CENTERS)


def data_center(data_center_id: str) -> DataCenter | None:
    """Find a data center."""
    return next((center for center in DATA_CENTERS if center.id == data_center_id), None)


def standard_usd_per_month(size_gb: int) -> float:
    """Price a STANDARD volume: less for each GB beyond the first 1,000."""
    return min(size_gb, 1000) * 0.07 + max(size_gb - 1000, 0) * 0.05


def cpu(flavor: str) -> Cpu | None:
    """Find a CPU flavor."""
    return next((cpu for cpu in CPUS if cpu.id == flavor), None)


def types_of(pools: list[str], excluded: list[str]) -> list[Gpu]:
    """Return the GPU types of a selection, in the order of its pools."""
    return [gpu for pool in pools for gpu in GPUS if gpu.pool == pool and gpu.id not in excluded]
