"""What a stack costs: storage by the month, workers by the hour, from the live catalog. Pure.

RunPod bills a worker from its start to its stop, and a volume always.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final

from backend.errors import ConfigError
from ops.runpod.catalog import Catalog

HOURS_PER_MONTH: Final = 730
# Not in the catalog. Source: docs.runpod.io, serverless/pricing and storage/network-volumes, read
# 2026-08-20; HIGH_PERFORMANCE costs more, by data center, and only the console shows how much.
VOLUME_USD_PER_GB_MONTH: Final = 0.07
VOLUME_USD_PER_GB_MONTH_ABOVE_1_TB: Final = 0.05
SMALLEST_VOLUME_GB: Final = 10
"""What RunPod sells. Source: docs.runpod.io, storage/network-volumes, read 2026-08-20."""
DISK_USD_PER_GB_MONTH: Final = 0.10
CONTAINER_DISK_GB: Final = 20
"""RunPod's default, where an endpoint states none."""
_DISK_NOTE: Final = (
    "RunPod's catalog has no price for container disk; while a worker runs it is estimated at "
    f"{DISK_USD_PER_GB_MONTH:.2f} USD per GB and month."
)
_FEES_NOTE: Final = "Taxes, payment fees and discounts of the account are unknown and not included."


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
class Unpriced:
    """A part of the stack whose price is unknown; the sums do not include it, or not all of it.

    Attributes:
        sentence: what is unknown and where a person finds it.
        monthly: it adds to the cost of a month without jobs.
        hourly: it adds to the cost of an hour with every worker running.
    """

    sentence: str
    monthly: bool = False
    hourly: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stack costs.

    Attributes:
        lines: where the sums come from.
        unpriced: the parts that RunPod's catalog has no price for.
        notes: what no estimate can know.
    """

    lines: tuple[Line, ...]
    unpriced: tuple[Unpriced, ...] = ()
    notes: tuple[str, ...] = (_DISK_NOTE, _FEES_NOTE)

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

    def summary(self) -> dict[str, Any]:
        """Sums in US dollars, rounded to a tenth of a cent, and a sentence for each part without a price."""
        return {
            "usd_per_month": round(self.usd_per_month, 3),
            "usd_per_hour_min": round(self.usd_per_hour_min, 3),
            "usd_per_hour_max": round(self.usd_per_hour_max, 3),
            "unpriced": [part.sentence for part in self.unpriced],
        }

    def to_json(self) -> dict[str, Any]:
        """The summary, the lines and the notes."""
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


def volume_usd_per_month(size_gb: float) -> float:
    """Price a network volume of the standard tier, or what some gigabytes of it cost.

    The first 1,000 GB of a volume cost more than those above.
    """
    return (
        min(size_gb, 1000) * VOLUME_USD_PER_GB_MONTH
        + max(size_gb - 1000, 0) * VOLUME_USD_PER_GB_MONTH_ABOVE_1_TB
    )


def estimate(
    catalog: Catalog,
    *,
    volume_gb: int,
    volume_type: str | None = None,
    volume_usd_per_gb_month: float | None = None,
    workers: Sequence[Workers] = (),
) -> Estimate:
    """Price a stack, workers at the most expensive GPU that they may get.

    Args:
        catalog: RunPod's, live.
        volume_gb: size of the network volume.
        volume_type: the tier that the volume has or will have (``ops.runpod.availability.volume_tier``).
        volume_usd_per_gb_month: the volume's price where the user knows it; by default the list price.
        workers: those of each endpoint.
    """
    volume, unpriced = _volume(volume_gb, volume_type, volume_usd_per_gb_month)
    lines = [volume]
    for group in workers:
        hourly, unknown = worker_usd_per_hour(catalog, group)
        unpriced += [
            Unpriced(
                f"RunPod's catalog has no serverless price for {what} (workers of the {group.name}).",
                monthly=group.workers_min > 0,
                hourly=group.workers_max > 0,
            )
            for what in unknown
        ]
        if hourly is None:
            continue
        lines.append(
            Line(
                group.name,
                f"{group.workers_min} to {group.workers_max} workers at most {hourly:.2f} USD an hour",
                usd_per_hour_min=hourly * group.workers_min,
                usd_per_hour_max=hourly * group.workers_max,
            )
        )
    return Estimate(tuple(lines), tuple(unpriced))


def check_budget(
    made: Estimate, *, usd_per_month: float | None = None, usd_per_hour: float | None = None
) -> None:
    """Refuse what is above the budget, and what may be because a price is unknown.

    Amounts are compared in cents, as they are shown: a cost that equals its budget passes.

    Raises:
        ConfigError: with the numbers, or the parts without a price.
    """
    over = []
    if usd_per_month is not None and in_cents(made.usd_per_month) > in_cents(usd_per_month):
        over.append(f"{made.usd_per_month:.2f} USD a month idle, and the budget is {usd_per_month:.2f}")
    if usd_per_hour is not None and in_cents(made.usd_per_hour_max) > in_cents(usd_per_hour):
        over.append(
            f"{made.usd_per_hour_max:.2f} USD an hour with all workers, and the budget is {usd_per_hour:.2f}"
        )
    unknown = [
        part.sentence
        for part in made.unpriced
        if (usd_per_month is not None and part.monthly) or (usd_per_hour is not None and part.hourly)
    ]
    if over:
        raise ConfigError(
            " ".join([f"This stack is above its budget: {'; '.join(over)}.", *unknown]),
            hint="Lower volume_gb, workers_max or workers_min, choose other gpu_pools, or raise "
            "comfyform:budget_usd_per_month or comfyform:budget_usd_per_hour.",
        )
    if unknown:
        raise ConfigError(
            f"This stack has a budget, and not all of its prices are known: {' '.join(unknown)}",
            hint="Choose hardware that has a price (inv stack.cost shows it), set "
            "comfyform:volume_usd_per_gb_month to the volume's price that RunPod's console shows, "
            "or remove the budget.",
        )


def in_cents(usd: float) -> Decimal:
    """Round an amount to the cent, exactly as it is shown."""
    return Decimal(f"{usd:.2f}")


def _volume(size_gb: int, tier: str | None, usd_per_gb_month: float | None) -> tuple[Line, list[Unpriced]]:
    """Price the volume; of a tier without a list price at least what the standard tier costs."""
    what = f"{size_gb} GB {tier}" if tier else f"{size_gb} GB"
    if usd_per_gb_month is not None:
        return Line("volume", what, usd_per_month=size_gb * usd_per_gb_month), []
    line = Line("volume", what, usd_per_month=volume_usd_per_month(size_gb))
    if tier in (None, "STANDARD"):
        return line, []
    sentence = (
        f"A {tier} volume costs more than the {line.usd_per_month:.2f} USD a month of a STANDARD one; "
        "only RunPod's console shows how much."
    )
    return line, [Unpriced(sentence, monthly=True)]


def endpoint_workers(values: Mapping[str, Any]) -> Workers:
    """Return the workers of an endpoint.

    Args:
        values: its fields, in the names of ``ops.runpod.specs.EndpointSpec``.
    """
    cpu = (values.get("cpu") or [None])[0]
    return Workers(
        name=str(values.get("name", "")),
        workers_min=values.get("workers_min", 0),
        workers_max=values.get("workers_max", 0),
        disk_gb=values.get("disk_gb") or CONTAINER_DISK_GB,
        gpu_pools=values.get("gpu_pools") or (),
        gpu_excluded_types=values.get("gpu_excluded_types") or (),
        gpu_count=values.get("gpu_count") or 1,
        cpu=cpu["id"] if cpu else None,
        vcpus=cpu["vcpu_count"] if cpu else 0,
    )


def worker_usd_per_hour(catalog: Catalog, group: Workers) -> tuple[float | None, list[str]]:
    """Price a worker and its disk at the most expensive hardware that it may get; list what has no price.

    All types of a pool share its price, and a type of the pool may lack it: the pool is unpriced only
    where each of its types that may be taken is. Source: RunPod's OpenAPI document, GpuType.price.
    """
    disk = group.disk_gb * DISK_USD_PER_GB_MONTH / HOURS_PER_MONTH
    if group.cpu is not None:
        flavor = catalog.cpus.get(group.cpu)
        if flavor is None or flavor.usd_per_vcpu_hour is None:
            return None, [f"CPU flavor {group.cpu}"]
        return flavor.usd_per_vcpu_hour * group.vcpus + disk, []
    prices, unknown = [], []
    for pool in group.gpu_pools:
        wanted = [gpu for gpu in catalog.pools.get(pool, ()) if gpu.id not in group.gpu_excluded_types]
        found = [gpu.usd_per_hour for gpu in wanted if gpu.usd_per_hour is not None]
        prices += found
        if not found and (wanted or pool not in catalog.pools):
            unknown.append(f"GPU pool {pool}")
    return (max(prices) * group.gpu_count + disk if prices else None), unknown
