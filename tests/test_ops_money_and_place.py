"""Prices, budgets and places: pure decisions over a catalog, and the catalog as the emulator gives it."""

from __future__ import annotations

from typing import Any

import pytest

from backend.drivers import Http
from backend.errors import ConfigError
from backend.settings import Secret
from ops.catalog import Catalog, CpuType, DataCenter, GpuType, fetch
from ops.cost import Workers, check_budget, estimate, volume_usd_per_month
from ops.placement import Wish, judge
from ops.runpod_api import RunPodApi
from tests.emulation import Emulator

CATALOG = Catalog(
    gpus={
        gpu.id: gpu
        for gpu in (
            GpuType("L4", "AMPERE_24", 0.7, {"EU-RO-1": "HIGH"}),
            GpuType("A5000", "AMPERE_24", 0.9, {"US-KS-2": "LOW"}),
            GpuType("H100", "ADA_80_PRO", 4.0, {"US-KS-2": "HIGH"}),
            GpuType("rare", None, None),
        )
    },
    cpus={"cpu3c": CpuType("cpu3c", 2, 32, 0.03, {"EU-RO-1": "HIGH", "US-KS-2": "NONE"})},
    data_centers={
        center.id: center
        for center in (
            DataCenter("EU-RO-1", "EUROPE", ("STANDARD",)),
            DataCenter("EU-CZ-1", "EUROPE", ("STANDARD", "HIGH_PERFORMANCE")),
            DataCenter("EU-FR-9", "EUROPE", ()),
            DataCenter("EUR-IS-3", "EUROPE", ("STANDARD",)),
            DataCenter("US-KS-2", "NORTH_AMERICA", ("HIGH_PERFORMANCE", "STANDARD")),
        )
    },
)


@pytest.mark.parametrize(("size_gb", "usd"), [(10, 0.7), (1000, 70.0), (1500, 95.0)])
def test_a_volume_is_cheaper_beyond_a_terabyte(size_gb: int, usd: float) -> None:
    """Source: RunPod's price list, 0.07 and 0.05 USD a GB and month."""
    assert volume_usd_per_month(size_gb) == pytest.approx(usd)


def test_an_estimate_takes_the_dearest_gpu_that_may_come() -> None:
    """Worst case by the hour, idle by the month; an excluded type costs nothing."""
    group = Workers(name="gpu", workers_min=1, workers_max=2, disk_gb=0, gpu_pools=["AMPERE_24"], gpu_count=2)

    made = estimate(CATALOG, volume_gb=100, workers=[group])

    assert made.usd_per_hour_max == pytest.approx(2 * 2 * 0.9)
    assert made.usd_per_hour_min == pytest.approx(2 * 0.9)
    assert made.usd_per_month == pytest.approx(7.0 + 730 * 1.8)
    cheaper = Workers(
        name="gpu",
        workers_min=0,
        workers_max=1,
        disk_gb=0,
        gpu_pools=["AMPERE_24"],
        gpu_excluded_types=["A5000"],
    )
    assert estimate(CATALOG, volume_gb=100, workers=[cheaper]).usd_per_hour_max == pytest.approx(0.7)


def test_an_estimate_says_what_it_does_not_know() -> None:
    """A pool without a price and a tier without one are notes, not zeros that pass for prices."""
    group = Workers(name="odd", workers_min=0, workers_max=1, disk_gb=0, gpu_pools=["NEW"])

    made = estimate(CATALOG, volume_gb=10, volume_type="HIGH_PERFORMANCE", workers=[group])

    assert [note for note in made.notes if "odd" in note or "HIGH_PERFORMANCE" in note] == list(made.notes)
    assert len(made.notes) == 2


def test_a_budget_refuses_with_both_numbers() -> None:
    """What is above either budget is refused, and what is within is not."""
    group = Workers(name="cpu", workers_min=0, workers_max=1, disk_gb=0, cpu="cpu3c", vcpus=4)
    made = estimate(CATALOG, volume_gb=1000, workers=[group])

    check_budget(made, usd_per_month=70, usd_per_hour=0.12)
    with pytest.raises(ConfigError, match=r"70\.00 USD a month idle, and the budget is 69\.00"):
        check_budget(made, usd_per_month=69)
    with pytest.raises(ConfigError, match=r"0\.12 USD an hour with all workers"):
        check_budget(made, usd_per_hour=0.11)


GOOD: dict[str, Any] = {"data_center": "EU-RO-1", "gpu_pools": ["AMPERE_24"], "cpu": "cpu3c"}


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ({"data_center": "EU-R0-1"}, "no data center 'EU-R0-1'. Did you mean EU-RO-1?"),
        ({"data_center": "EU-FR-9"}, "hosts no network volumes. Nearest that can: EU-RO-1, EU-CZ-1"),
        (
            {"volume_type": "HIGH_PERFORMANCE"},
            "has no HIGH_PERFORMANCE volumes, only STANDARD. Nearest that can: EU-CZ-1",
        ),
        ({"data_center": "EUR-IS-3", "needs_s3": True}, "no S3 endpoint, which transport s3 needs"),
        ({"gpu_pools": ["AMPERE_25"]}, "no GPU pool 'AMPERE_25': there are ADA_80_PRO, AMPERE_24"),
        ({"gpu_excluded_types": ["H100"]}, "'H100' is in none of the wanted pools, which have A5000, L4"),
        ({"gpu_excluded_types": ["L4", "A5000"]}, "Every GPU type of the pools that are wanted is excluded"),
        ({"cpu": "cpu9"}, "no CPU flavor 'cpu9': there are cpu3c"),
        ({"vcpus": 64}, "comes with 2 to 32 vCPUs, not 64"),
    ],
)
def test_what_cannot_be_is_said_with_alternatives(wish: dict[str, Any], problem: str) -> None:
    """A place that cannot work is a problem, and the nearest that can is named."""
    verdict = judge(CATALOG, Wish(**{**GOOD, **wish}))

    with pytest.raises(ConfigError) as caught:
        verdict.check()
    assert problem in str(caught.value)


def test_a_shortage_is_only_a_warning() -> None:
    """Stock changes by the minute: the stack can be made, and the user knows that jobs may wait."""
    verdict = judge(
        CATALOG,
        Wish(data_center="US-KS-2", gpu_pools=["AMPERE_24"], gpu_excluded_types=["A5000"], cpu="cpu3c"),
    )

    verdict.check()
    gpus, cpus = verdict.warnings
    assert "No GPU of AMPERE_24 is free in US-KS-2 now" in gpus
    assert "Free elsewhere: EU-RO-1." in gpus
    assert "No CPU of flavor cpu3c" in cpus


def test_a_good_place_has_nothing_to_say() -> None:
    """No problems and no warnings."""
    assert judge(CATALOG, Wish(**GOOD)) == judge(CATALOG, Wish(**GOOD, needs_s3=True))


def test_the_live_catalog_is_read(emu: Emulator) -> None:
    """Pools, prices, tiers and stock come as RunPod's catalog gives them; a shortage shows."""
    emu.set(shortage=["ADA_24"])
    with Http() as http:
        catalog = fetch(RunPodApi(http, emu.url("rest"), Secret(emu.env["RUNPOD_API_KEY"])))

    assert catalog.data_centers["EU-RO-1"].volume_types[0] == "STANDARD"
    (gpu,) = catalog.pools["ADA_24"]
    assert gpu.usd_per_hour == pytest.approx(0.00031 * 3600)
    assert catalog.cpus["cpu3c"].usd_per_vcpu_hour > 0
    verdict = judge(catalog, Wish(data_center="EU-RO-1", gpu_pools=["ADA_24"], cpu="cpu3c"))
    assert len(verdict.warnings) == 1
