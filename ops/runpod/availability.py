"""Can a stack be where it wants to be? Data center, storage, S3, CPUs and GPUs, against the catalog. Pure."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.errors import ConfigError
from ops.runpod.catalog import Catalog, GpuType
from ops.runpod.transports import S3_DATA_CENTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Where a stack wants to be, and on what.

    Attributes:
        needs_s3: its models go to the volume over S3.
        cpu, vcpus: of the ops endpoint.
    """

    data_center: str
    volume_type: str | None = None
    needs_s3: bool = False
    gpu_pools: Sequence[str] = ()
    gpu_excluded_types: Sequence[str] = ()
    cpu: str | None = None
    vcpus: int = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a stack can be made; each problem and warning is a sentence, problems with alternatives.

    Attributes:
        place: why the volume cannot be made in its data center.
        problems: what no existing volume settles: hardware that does not exist, a data center without S3.
        warnings: the stack can be made, and may have to wait for a free machine.
    """

    place: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def check(self, *, volume_exists: bool = False) -> None:
        """Refuse what cannot work.

        Args:
            volume_exists: in this data center and tier, so that the place is settled.

        Raises:
            ConfigError: all problems.
        """
        problems = self.problems if volume_exists else (*self.place, *self.problems)
        if problems:
            raise ConfigError(" ".join(problems))


def judge(catalog: Catalog, wish: Wish) -> Verdict:
    """Judge a place. A shortage is a warning: stock changes by the minute, and an endpoint may wait."""
    problems = [*_hardware_problems(catalog, wish)]
    center = catalog.data_centers.get(wish.data_center)
    if center is None:
        close = difflib.get_close_matches(wish.data_center.upper(), catalog.data_centers, n=1, cutoff=0.7)
        meant = f" Did you mean {close[0]}?" if close else ""
        unknown = (
            f"RunPod has no data center {wish.data_center!r}.{meant} "
            f"Network volumes can be in {_listed(_hosts(catalog, wish))}."
        )
        return Verdict((unknown,), tuple(problems))
    place = []
    if not center.volume_types:
        place.append(
            f"Data center {center.id} hosts no network volumes. {_nearest(catalog, wish, center.region)}"
        )
    elif wish.volume_type is not None and wish.volume_type not in center.volume_types:
        place.append(
            f"Data center {center.id} has no {wish.volume_type} volumes, only "
            f"{_listed(center.volume_types)}. {_nearest(catalog, wish, center.region)}"
        )
    if wish.needs_s3 and center.id not in S3_DATA_CENTERS:
        problems.append(
            f"Data center {center.id} has no S3 endpoint, which transport s3 needs: use transport job. "
            f"{_nearest(catalog, wish, center.region)}"
        )
    return Verdict(tuple(place), tuple(problems), tuple(_shortages(catalog, wish)))


def volume_tier(catalog: Catalog, data_center: str, wanted: str | None) -> str | None:
    """Name the storage tier that a volume gets: the wanted one, else the data center's primary tier.

    The catalog lists a data center's tiers and does not say which is its primary one: the first is taken
    for it. None where the catalog does not know the data center, or it hosts no volumes.
    """
    center = catalog.data_centers.get(data_center)
    return wanted or (center.volume_types[0] if center is not None and center.volume_types else None)


def _hardware_problems(catalog: Catalog, wish: Wish) -> Iterable[str]:
    for pool in wish.gpu_pools:
        if pool not in catalog.pools:
            yield f"RunPod has no GPU pool {pool!r}. Available: {_listed(sorted(catalog.pools))}."
    members = {gpu.id for pool in wish.gpu_pools for gpu in catalog.pools.get(pool, ())}
    for excluded in wish.gpu_excluded_types:
        if excluded not in members:
            yield f"GPU type {excluded!r} is not in the selected pools: {_listed(sorted(members))}."
    if members and members <= set(wish.gpu_excluded_types):
        yield "Every GPU type of the selected pools is excluded."
    if wish.cpu is not None:
        flavor = catalog.cpus.get(wish.cpu)
        if flavor is None:
            yield f"RunPod has no CPU flavor {wish.cpu!r}. Available: {_listed(sorted(catalog.cpus))}."
        elif not flavor.vcpus_min <= wish.vcpus <= flavor.vcpus_max:
            span = f"{flavor.vcpus_min} to {flavor.vcpus_max}"
            yield f"CPU flavor {wish.cpu} comes with {span} vCPUs, not {wish.vcpus}."


def _shortages(catalog: Catalog, wish: Wish) -> Iterable[str]:
    if wish.gpu_pools and not _gpus(catalog, wish, wish.data_center):
        others = [host for host in _hosts(catalog, wish) if _gpus(catalog, wish, host)]
        yield (
            f"No GPU of {_listed(wish.gpu_pools)} is free in {wish.data_center} now: jobs would wait. "
            f"Free elsewhere: {_listed(others)}."
        )
    flavor = catalog.cpus.get(wish.cpu or "")
    if flavor is not None and flavor.stock.get(wish.data_center, "NONE") == "NONE":
        others = [host for host in _hosts(catalog, wish) if flavor.stock.get(host, "NONE") != "NONE"]
        yield (
            f"No CPU of flavor {flavor.id} is free in {wish.data_center} now: the ops endpoint would wait. "
            f"Free elsewhere: {_listed(others)}."
        )


def _gpus(catalog: Catalog, wish: Wish, center: str) -> list[GpuType]:
    """List the wanted GPU types that are free in a data center."""
    return [
        gpu
        for pool in wish.gpu_pools
        for gpu in catalog.pools.get(pool, ())
        if gpu.id not in wish.gpu_excluded_types and gpu.stock.get(center, "NONE") != "NONE"
    ]


def _hosts(catalog: Catalog, wish: Wish) -> list[str]:
    """List data centers that can host the volume."""
    return [
        center.id
        for center in catalog.data_centers.values()
        if center.volume_types
        and (wish.volume_type is None or wish.volume_type in center.volume_types)
        and (not wish.needs_s3 or center.id in S3_DATA_CENTERS)
    ]


def _nearest(catalog: Catalog, wish: Wish, region: str) -> str:
    """Name the best alternatives: the same region first, those with the wanted GPUs before the others."""
    ranked = sorted(
        _hosts(catalog, wish),
        key=lambda id_: (catalog.data_centers[id_].region != region, not _gpus(catalog, wish, id_), id_),
    )
    return f"Nearest that can: {_listed(ranked[:5])}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "nowhere"
