"""RunPod's JSON and ours: laws that hold for every declaration, not only for examples."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.runpod.serialize import changes, creation, patch, reading
from ops.runpod.specs import EndpointSpec, Spec, TemplateSpec, validate, wires

WORDS = st.text("abcdefghij-", min_size=1, max_size=8)
SHARED = {
    "name": WORDS,
    "image": WORDS,
    "args": st.none() | st.text(max_size=8),
    "disk_gb": st.none() | st.integers(1, 500),
    "env": st.none() | st.dictionaries(WORDS, st.text(max_size=8), max_size=3),
    "ports": st.none() | st.lists(WORDS, max_size=3, unique=True),
    "registry_id": st.none() | st.just("") | WORDS,
    "allowed_cuda_versions": st.none() | st.just([]) | st.just(["12.8", "12.4"]),
}
TEMPLATES = st.fixed_dictionaries(
    {
        **SHARED,
        "serverless": st.booleans(),
        "public": st.booleans(),
        "category": st.sampled_from(["AMD", "CPU"]),
    }
)
GPU_ENDPOINTS = st.fixed_dictionaries(
    {
        **SHARED,
        "gpu_pools": st.lists(WORDS, min_size=1, max_size=3, unique=True),
        "gpu_excluded_types": st.none() | st.lists(WORDS, max_size=2, unique=True),
        "gpu_count": st.none() | st.integers(1, 8),
        "workers_min": st.integers(0, 2),
        "workers_max": st.integers(2, 9),
        "queue_delay_s": st.none() | st.floats(0.5, 100),
        "data_centers": st.lists(WORDS, max_size=2, unique=True),
        "volume_ids": st.lists(WORDS, max_size=2, unique=True),
        "timeout_s": st.integers(0, 100_000),
        "flashboot": st.sampled_from(["OFF", "FLASHBOOT"]),
    }
)
DECLARED = st.one_of(
    st.tuples(st.just(TemplateSpec), TEMPLATES), st.tuples(st.just(EndpointSpec), GPU_ENDPOINTS)
)


def settled(spec: type[Spec], given_: dict[str, Any]) -> dict[str, Any]:
    values, problems = validate(spec, given_)
    assert problems == []
    return values


@pytest.mark.slow
@given(DECLARED)
def test_what_is_sent_is_what_is_read_back(declared: tuple[type[Spec], dict[str, Any]]) -> None:
    """No declaration changes on its way to RunPod and back, so a second up has nothing to do."""
    spec, values = declared[0], settled(*declared)

    assert changes(spec, reading(spec, creation(spec, values)), values) == []


@pytest.mark.slow
@given(DECLARED)
def test_a_check_settles_once(declared: tuple[type[Spec], dict[str, Any]]) -> None:
    """Inputs that passed a check pass it again unchanged, also with the engine's floats."""
    spec, values = declared[0], settled(*declared)
    floats = {k: float(v) if type(v) is int else v for k, v in values.items()}

    assert settled(spec, floats) == values


@pytest.mark.slow
@given(DECLARED, st.randoms(use_true_random=False))
def test_the_order_of_a_set_means_nothing(declared: tuple[type[Spec], dict[str, Any]], chance: Any) -> None:
    """RunPod may give pools, ports and the like in any order."""
    spec, values = declared[0], settled(*declared)
    shuffled = {
        name: chance.sample(value, len(value)) if wires(spec)[name].unordered else value
        for name, value in values.items()
    }

    assert changes(spec, shuffled, values) == []


@pytest.mark.parametrize("name", ["gpu_pools", "gpu_count", "allowed_cuda_versions", "min_cuda_version"])
def test_a_patch_of_gpus_restates_them_all(name: str) -> None:
    """To RunPod pools without exclusions clear the exclusions."""
    required = {"name": "e", "image": "i", "gpu_pools": ["A"], "gpu_excluded_types": ["x"]}

    body = patch(EndpointSpec, settled(EndpointSpec, required), [name])

    assert list(body) == ["gpu"]
    assert (body["gpu"]["pools"], body["gpu"]["excludedTypes"]) == (["A"], ["x"])


def test_clearing_is_said_in_runpods_way() -> None:
    """An empty CUDA floor is "", a credential that is taken away is null, and neither is sent on create."""
    values = settled(EndpointSpec, {"name": "e", "image": "i", "gpu_pools": ["A"]})

    assert patch(EndpointSpec, values, ["registry_id"]) == {"registry": None}
    assert patch(EndpointSpec, values, ["min_cuda_version"])["gpu"]["minCudaVersion"] == ""
    assert "registry" not in creation(EndpointSpec, values)
    assert "minCudaVersion" not in creation(EndpointSpec, values)["gpu"]
