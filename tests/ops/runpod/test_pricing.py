"""Prices, budgets and places: pure decisions over a catalog, and the catalog as the emulator gives it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import ConfigError
from backend.flow.http_driver import Http
from backend.settings import Secret
from ops.runpod.api import RunPodApi
from ops.runpod.availability import Wish, judge, volume_tier
from ops.runpod.catalog import Catalog, CpuType, DataCenter, GpuType, fetch
from ops.runpod.pricing import Estimate, Line, Workers, check_budget, estimate, volume_usd_per_month
from tests.support.emulation import Emulator

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

    created = estimate(CATALOG, volume_gb=100, workers=[group])

    assert created.usd_per_hour_max == pytest.approx(2 * 2 * 0.9)
    assert created.usd_per_hour_min == pytest.approx(2 * 0.9)
    assert created.usd_per_month == pytest.approx(7.0 + 730 * 1.8)
    cheaper = Workers(
        name="gpu",
        workers_min=0,
        workers_max=1,
        disk_gb=0,
        gpu_pools=["AMPERE_24"],
        gpu_excluded_types=["A5000"],
    )
    assert estimate(CATALOG, volume_gb=100, workers=[cheaper]).usd_per_hour_max == pytest.approx(0.7)


def test_an_estimate_names_what_has_no_price() -> None:
    """A pool without a price and a tier without one are named, not zeros that pass for prices."""
    group = Workers(
        name="GPU endpoint", workers_min=0, workers_max=1, disk_gb=0, gpu_pools=["NEW", "AMPERE_24"]
    )

    created = estimate(CATALOG, volume_gb=10, volume_type="HIGH_PERFORMANCE", workers=[group])

    tier, pool = created.unpriced
    assert (tier.monthly, tier.hourly) == (True, False)
    assert "A HIGH_PERFORMANCE volume costs more than the 0.70 USD" in tier.sentence
    assert (pool.monthly, pool.hourly) == (False, True)
    assert "no serverless price for GPU pool NEW (workers of the GPU endpoint)" in pool.sentence
    assert created.usd_per_hour_max == pytest.approx(0.9)  # what is known
    assert created.summary()["unpriced"] == [tier.sentence, pool.sentence]
    assert "container disk" in created.notes[0]
    assert "Taxes" in created.notes[1]


def test_a_type_without_a_price_has_that_of_its_pool() -> None:
    """One price is a pool's; a type that lacks it does not make the pool unknown."""
    gpus = {**CATALOG.gpus, "L4S": GpuType("L4S", "AMPERE_24", None)}
    group = Workers(name="gpu", workers_min=0, workers_max=1, disk_gb=0, gpu_pools=["AMPERE_24"])

    created = estimate(replace(CATALOG, gpus=gpus), volume_gb=10, workers=[group])

    assert created.usd_per_hour_max == pytest.approx(0.9)
    assert created.unpriced == ()


def test_a_cpu_flavor_without_a_price_is_unknown_and_not_free() -> None:
    """A catalog entry without a price does not make workers cost nothing."""
    cpus = {"cpu3c": CpuType("cpu3c", 2, 32, None)}
    group = Workers(name="cpu", workers_min=1, workers_max=1, disk_gb=0, cpu="cpu3c", vcpus=2)

    created = estimate(replace(CATALOG, cpus=cpus), volume_gb=10, workers=[group])

    (unknown,) = created.unpriced
    assert (unknown.monthly, unknown.hourly) == (True, True)
    with pytest.raises(ConfigError, match="no serverless price for CPU flavor cpu3c"):
        check_budget(created, usd_per_month=1000)


def test_a_volume_price_that_the_user_knows_replaces_the_list_price() -> None:
    """Then a HIGH_PERFORMANCE volume has a price, and a budget can be checked."""
    created = estimate(CATALOG, volume_gb=100, volume_type="HIGH_PERFORMANCE", volume_usd_per_gb_month=0.14)

    assert created.usd_per_month == pytest.approx(14)
    assert created.unpriced == ()


@pytest.mark.parametrize(("required", "tier"), [(None, "HIGH_PERFORMANCE"), ("STANDARD", "STANDARD")])
def test_the_tier_that_is_priced_is_the_one_that_is_made(required: str | None, tier: str) -> None:
    """Without a wish, a volume in US-KS-2 gets that data center's first tier, which is not STANDARD."""
    assert volume_tier(CATALOG, "US-KS-2", required) == tier
    assert volume_tier(CATALOG, "EU-XX-1", None) is None


def test_a_budget_refuses_with_both_numbers() -> None:
    """What is above either budget is refused, and what is within is not."""
    group = Workers(name="cpu", workers_min=0, workers_max=1, disk_gb=0, cpu="cpu3c", vcpus=4)
    created = estimate(CATALOG, volume_gb=1000, workers=[group])

    check_budget(created, usd_per_month=70, usd_per_hour=0.12)
    with pytest.raises(ConfigError, match=r"70\.00 USD a month idle, and the budget is 69\.00"):
        check_budget(created, usd_per_month=69)
    with pytest.raises(ConfigError, match=r"0\.12 USD an hour with all workers"):
        check_budget(created, usd_per_hour=0.11)


@given(cents=st.integers(0, 10**7), parts=st.integers(1, 50))
def test_a_cost_that_equals_its_budget_passes(cents: int, parts: int) -> None:
    """Amounts are compared in cents, whatever a sum of floats makes of them; one cent more is refused."""
    usd = cents / 100
    lines = tuple(Line("part", "", usd / parts, usd_per_hour_max=usd / parts) for _ in range(parts))
    created = Estimate(lines)

    check_budget(created, usd_per_month=usd, usd_per_hour=usd)
    if cents:
        for budget in ({"usd_per_month": usd - 0.01}, {"usd_per_hour": usd - 0.01}):
            with pytest.raises(ConfigError, match="above its budget"):
                check_budget(created, **budget)


def test_a_budget_refuses_an_unknown_price_by_name() -> None:
    """Only the budget that the part belongs to: an hour's does not ask what a volume costs."""
    created = estimate(CATALOG, volume_gb=10, volume_type="HIGH_PERFORMANCE")

    check_budget(created, usd_per_hour=0)
    with pytest.raises(
        ConfigError, match="not all of its prices are known: A HIGH_PERFORMANCE volume"
    ) as caught:
        check_budget(created, usd_per_month=100)
    assert "comfyform:volume_usd_per_gb_month" in str(caught.value.hint)
    with pytest.raises(ConfigError, match=r"above its budget: 0\.70 USD .* A HIGH_PERFORMANCE volume"):
        check_budget(created, usd_per_month=0.5)


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
        ({"gpu_pools": ["AMPERE_25"]}, "no GPU pool 'AMPERE_25'. Available: ADA_80_PRO, AMPERE_24"),
        ({"gpu_excluded_types": ["H100"]}, "GPU type 'H100' is not in the selected pools: A5000, L4"),
        ({"gpu_excluded_types": ["L4", "A5000"]}, "Every GPU type of the selected pools is excluded"),
        ({"cpu": "cpu9"}, "no CPU flavor 'cpu9'. Available: cpu3c"),
        ({"vcpus": 64}, "comes with 2 to 32 vCPUs, not 64"),
    ],
)
def test_what_cannot_be_is_said_with_alternatives(wish: dict[str, Any], problem: str) -> None:
    """A place that cannot work is a problem, and the nearest that can is named."""
    verdict = judge(CATALOG, Wish(**{**GOOD, **wish}))

    with pytest.raises(ConfigError) as caught:
        verdict.check()
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "wish", [{"gpu_pools": ["ADA_42"]}, {"cpu": "cpu9"}, {"vcpus": 64}, {"gpu_excluded_types": ["H100"]}]
)
def test_a_volume_settles_its_place_and_not_the_hardware(wish: dict[str, Any]) -> None:
    """Where a volume is, its data center is good enough; workers that cannot exist stay refused."""
    judge(CATALOG, Wish(**{**GOOD, "data_center": "EU-FR-9"})).check(volume_exists=True)
    with pytest.raises(ConfigError):
        judge(CATALOG, Wish(**{**GOOD, **wish})).check(volume_exists=True)


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
    assert (catalog.cpus["cpu3c"].usd_per_vcpu_hour or 0) > 0
    verdict = judge(catalog, Wish(data_center="EU-RO-1", gpu_pools=["ADA_24"], cpu="cpu3c"))
    assert len(verdict.warnings) == 1
