"""Before anything is created: can it be there, is the quota enough, and what will it cost?

Reads RunPod's catalog and listings, decides by the pure rules of ``ops``, and
refuses at preview what would fail, or surprise, at ``up``.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from backend.errors import ConfigError
from infra import adoption
from infra.naming import EnvironmentNames, endpoint_urn, is_object, object_name
from infra.ownership import StackState
from infra.refusals import Refusals
from infra.stack_config import StackConfig
from ops.runpod import quota
from ops.runpod.api import (
    ENDPOINTS,
    NETWORK_VOLUMES,
    REGISTRY_CREDENTIALS,
    TEMPLATES,
    Kind,
    Live,
    RunPodApi,
)
from ops.runpod.availability import Wish, judge, volume_tier
from ops.runpod.catalog import Catalog, fetch
from ops.runpod.pricing import Estimate, Workers, check_budget, estimate
from ops.runpod.specs import EndpointSpec, NetworkVolumeSpec, Spec, refuse_to_shrink

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


def preflight(
    api: RunPodApi,
    config: StackConfig,
    project: str,
    stack: str,
    *,
    read_state: Callable[[], StackState | None] = lambda: None,
) -> Cleared:
    """Judge a stack.

    Args:
        api: RunPod's control plane.
        config: the stack's configuration.
        project: of Pulumi.
        stack: its short name.
        read_state: reads the stack's state, or returns None where it cannot; called only where it matters.

    Raises:
        ConfigError: it cannot be there, is above its budget or above the worker quota; several reasons
            together.
        ApiError: RunPod does not answer.
    """
    found = survey(api)
    volume = existing_volume(found.volumes, config, project, stack)
    verdict = judge(found.catalog, _wish(config))
    cost = price(found, config, project, stack)
    others = other_workers(found.endpoints, config, project, stack, read_state)
    refusals = Refusals()
    scarce: tuple[str, ...] = ()
    with refusals.collect():
        verdict.check(volume_exists=volume is not None)
    with refusals.collect():
        check_adoption(api, found, config, read_state)
    with refusals.collect():
        scarce = check_quota(config, others)
    with refusals.collect():
        check_budget(cost, usd_per_month=config.budget_usd_per_month, usd_per_hour=config.budget_usd_per_hour)
    refusals.raise_all()
    unpriced = tuple(part.sentence for part in cost.unpriced)
    return Cleared(cost, (*verdict.place, *verdict.warnings, *scarce, *unpriced))


def check_adoption(
    api: RunPodApi, found: Survey, config: StackConfig, read_state: Callable[[], StackState | None]
) -> None:
    """Refuse to take over what is not there, or cannot become what the configuration says.

    The providers refuse the same. The engine stops at the first of them, and this names them all. What is
    in the state was taken over already, and is judged by its provider alone.

    Raises:
        ConfigError: a sentence for each object.
    """
    problems: list[tuple[str, str]] = []
    for key, kind, listed, wanted in _adoptable(found, config):
        if (id_ := getattr(config, key)) is None:
            continue
        objects = api.list_all(kind) if listed is None else listed
        live = next((each for each in objects if each.id == id_), None)
        if live is None:
            problems.append((id_, f"comfyform:{key}: {adoption.not_found(kind, id_, objects)}."))
            continue
        reasons = [*adoption.misfits(live, wanted), *refuse_to_shrink(live.values, wanted)]
        problems += [(id_, f"comfyform:{key}: {reason}.") for _, reason in reasons]
    state = read_state() if problems else None
    new = [sentence for id_, sentence in problems if state is not None and id_ not in state.ids()]
    if new:
        raise ConfigError(" ".join(new))


def _adoptable(
    found: Survey, config: StackConfig
) -> Iterator[tuple[str, Kind[Spec], Sequence[Live[Spec]] | None, dict[str, Any]]]:
    """List what a configuration may take over: its key, its kind, what was listed, and the wanted fields."""
    volume = {"data_center": config.data_center, "size_gb": config.volume_gb, "type": config.volume_type}
    cpu = [{"id": config.ops_cpu, "vcpu_count": config.ops_vcpus}]
    yield "adopt_volume", NETWORK_VOLUMES, found.volumes, volume
    yield "adopt_ops_endpoint", ENDPOINTS, found.endpoints, {"type": "QUEUE", "cpu": cpu}
    gpus = {"type": "QUEUE", "gpu_pools": config.gpu_pools}
    yield "adopt_worker_endpoint", ENDPOINTS, found.endpoints, gpus
    yield "adopt_ops_template", TEMPLATES, None, {}
    yield "adopt_worker_template", TEMPLATES, None, {}
    yield "adopt_registry_credential", REGISTRY_CREDENTIALS, None, {}


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
    endpoints: Sequence[Live[EndpointSpec]],
    config: StackConfig,
    project: str,
    stack: str,
    read_state: Callable[[], StackState | None] = lambda: None,
) -> int:
    """Count the most workers of all endpoints of the account that are not the stack's.

    An endpoint with the stack's name may be that of another state, and the stack's own state tells. Reading
    it takes a quarter of a second, so it is read only where the answer can change and where the user set a
    quota, or where several endpoints have the same name. Otherwise, and where the state cannot be read, an
    endpoint with the stack's name counts as the stack's.

    Args:
        endpoints: all of the account's.
        config: the stack's configuration.
        project: of Pulumi.
        stack: its short name.
        read_state: reads the stack's state, or returns None where it cannot.
    """
    adopted = (config.adopt_ops_endpoint, config.adopt_worker_endpoint)
    others, similar = 0, []
    for endpoint in endpoints:
        names = (
            name for name in (NAMES.ops, NAMES.worker) if is_object(endpoint.name, project, stack, [name])
        )
        logical = next(names, None)
        if logical is not None and endpoint.id not in adopted:
            similar.append((endpoint, logical))
        elif endpoint.id not in adopted:
            others += _workers_max(endpoint)
    allowed = quota.FIRST if config.worker_quota is None else config.worker_quota
    most = _own_workers(config) + others + sum(_workers_max(endpoint) for endpoint, _ in similar)
    is_ambiguous = config.worker_quota is not None or len({logical for _, logical in similar}) < len(similar)
    state = read_state() if similar and is_ambiguous and most > allowed else None
    if state is not None:
        others += sum(
            _workers_max(endpoint)
            for endpoint, logical in similar
            if not state.owns(
                endpoint.id,
                endpoint.name,
                base=object_name(project, stack, logical),
                urn=endpoint_urn(project, stack, logical),
            )
        )
    return others


def _workers_max(endpoint: Live[EndpointSpec]) -> int:
    return int(endpoint.values.get("workers_max") or 0)


def _own_workers(config: StackConfig) -> int:
    return sum(group.workers_max for group in workers(config))


def check_quota(config: StackConfig, others: int) -> tuple[str, ...]:
    """Refuse more workers than the account may have, where the configuration says how many that is.

    Args:
        config: the stack's configuration.
        others: the most workers of all other endpoints of the account together.

    Returns:
        A warning of more workers than a young account may have, where the quota is unknown.

    Raises:
        ConfigError: with the numbers.
    """
    ours = _own_workers(config)
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
