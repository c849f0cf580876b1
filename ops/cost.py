"""What a stack costs: storage by the month, workers by the hour, from the live catalog. Pure.

RunPod bills a worker from its start to its stop, and a volume always.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from backend.errors import ConfigError
from ops.catalog import Catalog

HOURS_PER_MONTH: Final = 730
# Not in the catalog. Source: docs.runpod.io, serverless/pricing and storage/network-volumes, read
# 2026-08-20; HIGH_PERFORMANCE costs more, by data center, and only the console shows how much.
VOLUME_USD_PER_GB_MONTH: Final = 0.07
VOLUME_USD_PER_GB_MONTH_ABOVE_1_TB: Final = 0.05
DISK_USD_PER_GB_MONTH: Final = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """What the workers of an endpoint are, as far as their price goes: GPUs or vCPUs."""

    name: str
    workers_min: int
    workers_max: int
    disk_gb: int
    gpu_pools: Sequence[str] = ()
    gpu_excluded_types: Sequence[str] = ()
    gpu_count: int = 1
    cpu: str | None = None
    vcpus: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the estimate, in US dollars."""

    what: str
    detail: str
    usd_per_month: float = 0.0
    usd_per_hour_min: float = 0.0
    usd_per_hour_max: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stack costs.

    Attributes:
        lines: where the sums come from.
        notes: what the estimate cannot know.
    """

    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def usd_per_hour_max(self) -> float:
        """With every worker of every endpoint running."""
        return sum(line.usd_per_hour_max for line in self.lines)

    @property
    def usd_per_hour_min(self) -> float:
        """With nothing to do: workers that are kept running."""
        return sum(line.usd_per_hour_min for line in self.lines)

    @property
    def usd_per_month(self) -> float:
        """With nothing to do, for a month: storage, and workers that are kept running."""
        return sum(line.usd_per_month for line in self.lines) + self.usd_per_hour_min * HOURS_PER_MONTH

    def summary(self) -> dict[str, float]:
        """Give the sums, rounded to a tenth of a cent."""
        return {
            "usd_per_month": round(self.usd_per_month, 3),
            "usd_per_hour_min": round(self.usd_per_hour_min, 3),
            "usd_per_hour_max": round(self.usd_per_hour_max, 3),
        }

    def to_json(self) -> dict[str, Any]:
        """Give it all."""
        return {
            **self.summary(),
            "lines": [
                {
                    name: round(value, 3) if isinstance(value, float) else value
                    for name, value in asdict(line).items()
                }
                for line in self.lines
            ],
            "notes": list(self.notes),
        }


def volume_usd_per_month(size_gb: int) -> float:
    """Price a network volume of the standard tier."""
    return (
        min(size_gb, 1000) * VOLUME_USD_PER_GB_MONTH
        + max(size_gb - 1000, 0) * VOLUME_USD_PER_GB_MONTH_ABOVE_1_TB
    )


def estimate(
    catalog: Catalog, *, volume_gb: int, volume_type: str | None = None, workers: Sequence[Workers] = ()
) -> Estimate:
    """Price a stack, workers at the dearest GPU that they may get."""
    lines = [Line("volume", f"{volume_gb} GB", usd_per_month=volume_usd_per_month(volume_gb))]
    notes = []
    if volume_type == "HIGH_PERFORMANCE":
        notes.append("A HIGH_PERFORMANCE volume costs more than this; RunPod's console shows the price.")
    for group in workers:
        hourly = _worker_usd_per_hour(catalog, group)
        if hourly is None:
            notes.append(f"The catalog has no price for the workers of {group.name}.")
            continue
        hourly += group.disk_gb * DISK_USD_PER_GB_MONTH / HOURS_PER_MONTH
        lines.append(
            Line(
                group.name,
                f"{group.workers_min} to {group.workers_max} workers at most {hourly:.2f} USD an hour",
                usd_per_hour_min=hourly * group.workers_min,
                usd_per_hour_max=hourly * group.workers_max,
            )
        )
    return Estimate(tuple(lines), tuple(notes))


def check_budget(
    made: Estimate, *, usd_per_month: float | None = None, usd_per_hour: float | None = None
) -> None:
    """Refuse what is above the budget.

    Raises:
        ConfigError: with the numbers.
    """
    over = []
    if usd_per_month is not None and made.usd_per_month > usd_per_month:
        over.append(f"{made.usd_per_month:.2f} USD a month idle, and the budget is {usd_per_month:.2f}")
    if usd_per_hour is not None and made.usd_per_hour_max > usd_per_hour:
        over.append(
            f"{made.usd_per_hour_max:.2f} USD an hour with all workers, and the budget is {usd_per_hour:.2f}"
        )
    if over:
        raise ConfigError(
            f"This stack is above its budget: {'; '.join(over)}.",
            hint="Lower volume_gb, workers_max or workers_min, choose other gpu_pools, or raise "
            "comfyform:budget_usd_per_month or comfyform:budget_usd_per_hour.",
        )


def _worker_usd_per_hour(catalog: Catalog, group: Workers) -> float | None:
    if group.cpu is not None:
        flavor = catalog.cpus.get(group.cpu)
        return None if flavor is None else flavor.usd_per_vcpu_hour * group.vcpus
    prices = [
        gpu.usd_per_hour
        for pool in group.gpu_pools
        for gpu in catalog.pools.get(pool, ())
        if gpu.id not in group.gpu_excluded_types and gpu.usd_per_hour is not None
    ]
    return max(prices) * group.gpu_count if prices else None
