"""Before anything is created: can it be there, is the quota enough, and what will it cost?

Reads RunPod's catalog and listings, decides by the pure rules of ``ops``, and
refuses at preview what would fail, or surprise, at ``up``.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from backend.errors import ConfigError
from infra.naming import EnvironmentNames, is_object
from infra.stack_config import StackConfig
from ops.runpod import quota
from ops.runpod.api import ENDPOINTS, NETWORK_VOLUMES, Live, RunPodApi
from ops.runpod.availability import Wish, judge, volume_tier
from ops.runpod.catalog import Catalog, fetch
from ops.runpod.pricing import Estimate, Workers, check_budget, estimate
from ops.runpod.specs import EndpointSpec, NetworkVolumeSpec

NAMES = EnvironmentNames()


@dataclass(frozen=True, slots=True)
class Cleared:
    """A stack that may be made.

    Attributes:
        warnings: what the user should know, a sentence each.
    """

    cost: Estimate
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What RunPod offers, and what the account has."""

    catalog: Catalog
    volumes: tuple[Live[NetworkVolumeSpec], ...]
    endpoints: tuple[Live[EndpointSpec], ...]


def survey(api: RunPodApi) -> Survey:
    """Read RunPod's catalog and the account's volumes and endpoints.

    Raises:
        ApiError: RunPod does not answer.
    """
    with ThreadPoolExecutor(3) as pool:
        catalog = pool.submit(fetch, api)
        volumes = pool.submit(api.list_all, NETWORK_VOLUMES)
        endpoints = pool.submit(api.list_all, ENDPOINTS)
    return Survey(catalog.result(), tuple(volumes.result()), tuple(endpoints.result()))


def preflight(api: RunPodApi, config: StackConfig, project: str, stack: str) -> Cleared:
    """Judge a stack.

    Args:
        api: RunPod's control plane.
        config: the stack's configuration.
        project: of Pulumi.
        stack: its short name.

    Raises:
        ConfigError: it cannot be there, is above its budget or above the worker quota.
        ApiError: RunPod does not answer.
    """
    found = survey(api)
    volume = existing_volume(found.volumes, config, project, stack)
    verdict = judge(found.catalog, _wish(config))
    verdict.check(volume_exists=volume is not None)
    scarce = check_quota(config, other_workers(found.endpoints, config, project, stack))
    cost = price(found, config, project, stack)
    check_budget(cost, usd_per_month=config.budget_usd_per_month, usd_per_hour=config.budget_usd_per_hour)
    unpriced = tuple(part.sentence for part in cost.unpriced)
    return Cleared(cost, (*verdict.place, *verdict.warnings, *scarce, *unpriced))


def price(found: Survey, config: StackConfig, project: str, stack: str) -> Estimate:
    """Price a stack with the storage tier that its volume has, or will get."""
    volume = existing_volume(found.volumes, config, project, stack)
    tier = config.volume_type or (volume.values.get("type") if volume is not None else None)
    return estimate(
        found.catalog,
        volume_gb=config.volume_gb,
        volume_type=volume_tier(found.catalog, config.data_center, tier),
        volume_usd_per_gb_month=config.volume_usd_per_gb_month,
        workers=workers(config),
    )


def existing_volume(
    volumes: Sequence[Live[NetworkVolumeSpec]], config: StackConfig, project: str, stack: str
) -> Live[NetworkVolumeSpec] | None:
    """Find the stack's volume, made or to be adopted, in the data center and of the tier that are wanted."""
    return next(
        (
            volume
            for volume in volumes
            if volume.values.get("data_center") == config.data_center
            and config.volume_type in (None, volume.values.get("type"))
            and (volume.id == config.adopt_volume or is_object(volume.name, project, stack, [NAMES.volume]))
        ),
        None,
    )


def other_workers(
    endpoints: Sequence[Live[EndpointSpec]], config: StackConfig, project: str, stack: str
) -> int:
    """Count the most workers of all endpoints of the account that are not the stack's."""
    own = (NAMES.ops, NAMES.worker)
    adopted = (config.adopt_ops_endpoint, config.adopt_worker_endpoint)
    return sum(
        int(endpoint.values.get("workers_max") or 0)
        for endpoint in endpoints
        if endpoint.id not in adopted and not is_object(endpoint.name, project, stack, own)
    )


def check_quota(config: StackConfig, others: int) -> tuple[str, ...]:
    """Refuse more workers than the account may have, where the configuration says how many that is.

    Args:
        config: the stack's configuration.
        others: the most workers of all other endpoints of the account together.

    Returns:
        A warning of more workers than a young account may have, where nobody says how many that is.

    Raises:
        ConfigError: with the numbers.
    """
    ours = sum(group.workers_max for group in workers(config))
    numbers = f"This stack may run {ours} workers and the account's other endpoints {others}"
    if config.worker_quota is not None and others + ours > config.worker_quota:
        raise ConfigError(
            f"{numbers}, together {others + ours}: the quota is {config.worker_quota}.",
            hint="Lower workers_max here or elsewhere, or ask RunPod for a higher quota.",
        )
    if config.worker_quota is None and others + ours > quota.FIRST:
        sentence = (
            f"{numbers}. RunPod tells the quota only where it refuses, and it starts at "
            f"{quota.FIRST}: with comfyform:worker_quota this is checked here."
        )
        return (sentence,)
    return ()


def workers(config: StackConfig) -> tuple[Workers, Workers]:
    """Describe the workers of the two endpoints, as far as they cost something."""
    return (
        Workers(
            name="ops endpoint",
            workers_min=0,
            workers_max=1,
            disk_gb=config.ops_disk_gb,
            cpu=config.ops_cpu,
            vcpus=config.ops_vcpus,
        ),
        Workers(
            name="GPU endpoint",
            workers_min=config.workers_min,
            workers_max=config.workers_max,
            disk_gb=config.worker_disk_gb,
            gpu_pools=config.gpu_pools,
            gpu_excluded_types=config.gpu_excluded_types,
            gpu_count=config.gpu_count,
        ),
    )


def _wish(config: StackConfig) -> Wish:
    return Wish(
        data_center=config.data_center,
        volume_type=config.volume_type,
        needs_s3=config.transport == "s3",
        gpu_pools=config.gpu_pools,
        gpu_excluded_types=config.gpu_excluded_types,
        cpu=config.ops_cpu,
        vcpus=config.ops_vcpus,
    )
