"""Before anything is created: can it be there, is the quota enough, and what will it cost?

Reads RunPod's catalog and listings, decides by the pure rules of ``ops``, and
refuses at preview what would fail, or surprise, at ``up``.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from backend.errors import ConfigError
from infra.stack_config import StackConfig
from ops import worker_quota
from ops.catalog import fetch
from ops.cost import Estimate, Workers, check_budget, estimate
from ops.placement import Wish, judge
from ops.runpod_api import ENDPOINTS, NETWORK_VOLUMES, RunPodApi


@dataclass(frozen=True, slots=True)
class Cleared:
    """A stack that may be made.

    Attributes:
        warnings: what the user should know, a sentence each.
    """

    cost: Estimate
    warnings: tuple[str, ...]


def preflight(api: RunPodApi, config: StackConfig, prefix: str) -> Cleared:
    """Judge a stack.

    Args:
        api: RunPod's control plane.
        config: the stack's configuration.
        prefix: how the names of its objects at RunPod begin.

    Raises:
        ConfigError: it cannot be there, is above its budget or above the worker quota.
        ApiError: RunPod does not answer.
    """
    with ThreadPoolExecutor(3) as pool:
        catalog = pool.submit(fetch, api)
        volumes = pool.submit(api.list_all, NETWORK_VOLUMES)
        endpoints = pool.submit(api.list_all, ENDPOINTS)
    verdict = judge(catalog.result(), _wish(config))
    # A place that holds our volume already is good enough, whatever the catalog says by now.
    settled = any(
        volume.name.startswith(prefix) and volume.values.get("data_center") == config.data_center
        for volume in volumes.result()
    )
    if not settled:
        verdict.check()
    others = sum(
        int(endpoint.values.get("workers_max") or 0)
        for endpoint in endpoints.result()
        if not endpoint.name.startswith(prefix)
    )
    scarce = check_quota(config, others)
    cost = estimate(
        catalog.result(), volume_gb=config.volume_gb, volume_type=config.volume_type, workers=workers(config)
    )
    check_budget(cost, usd_per_month=config.budget_usd_per_month, usd_per_hour=config.budget_usd_per_hour)
    return Cleared(cost, (*(verdict.problems if settled else ()), *verdict.warnings, *scarce))


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
    if config.worker_quota is None and others + ours > worker_quota.FIRST:
        sentence = (
            f"{numbers}. RunPod tells the quota only where it refuses, and it starts at "
            f"{worker_quota.FIRST}: with comfyform:worker_quota this is checked here."
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
