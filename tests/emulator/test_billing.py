"""Billing routes: the seconds that the emulator has counted, at the catalog's prices, in buckets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.control.clock import Clock
from emulator.rest.billing_window import SIZES, following, snapped
from emulator.rest.billing_window import window as read_window
from emulator.rest.call import Call
from emulator.usage import Ledger, Run
from tests.support import openapi
from tests.support.echo_endpoint import endpoint, run
from tests.support.emulation import Emulator, until

HOUR = 3600.0
TIMES = st.integers(946_684_800, 1_800_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def billing(emu: Emulator, route: str, query: str = "") -> dict[str, Any]:
    """Ask a billing route; the answer conforms to the document."""
    reply = emu.rest("GET", f"/billing{route}?{query}")
    assert reply.status_code == 200, reply.text
    assert openapi.problems("GET", f"/billing{route}", reply) == []
    return dict(reply.json())


@pytest.mark.slow
def test_workers_are_billed_for_the_seconds_that_they_ran(emu: Emulator) -> None:
    """From start to stop, with a job and without; only with one where idle time is free."""
    endpoint_id = endpoint(emu)
    run(emu, endpoint_id, do="wait", seconds=0.2)
    emu.advance(2 * HOUR)
    until(lambda: not emu.state()["workers"])  # it was idle for longer than its time
    (used,) = emu.state()["billing"]
    seconds = used["executedSeconds"] + used["idleSeconds"]

    answer = billing(emu, "/serverless", "lastN=2")
    totals = answer["metadata"]["totals"]

    assert (used["endpointId"], answer["metadata"]["uniqueServerlessCount"]) == (endpoint_id, 1)
    assert 0.2 <= used["executedSeconds"] < 60
    assert seconds > 2 * HOUR
    assert totals["cpuAmount"] == pytest.approx(seconds * 2 * 0.03 / HOUR)  # two vCPUs
    assert totals["diskAmount"] == pytest.approx(seconds * 20 * 0.10 / 730 / HOUR)
    assert {record["serverlessId"] for record in answer["records"]} == {endpoint_id}
    assert sum(record["totalAmount"] for record in answer["records"]) == pytest.approx(totals["totalAmount"])
    whole = billing(emu, "", "lastN=2")["metadata"]["totals"]
    assert whole["serverlessCpuAmount"] == pytest.approx(totals["cpuAmount"])
    emu.set(bill_idle=False)
    busy = billing(emu, "/serverless", "lastN=2")["metadata"]["totals"]["cpuAmount"]
    assert busy == pytest.approx(used["executedSeconds"] * 2 * 0.03 / HOUR, abs=1e-9)
    assert billing(emu, "/serverless", "serverlessId=other")["records"] == []


@pytest.mark.slow
def test_a_gpu_worker_costs_what_its_pool_does(emu: Emulator) -> None:
    """Per second and GPU, at the price of the type that the worker was placed on."""
    body = {
        "name": "gpu",
        "type": "QUEUE",
        "image": "echo",
        "gpu": {"pools": ["ADA_24"], "count": 2},
        "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
        "workers": {"min": 0, "max": 1, "idleTimeout": 60},
    }
    endpoint_id = emu.rest("POST", "/serverless", body).json()["id"]
    run(emu, endpoint_id, a=1)
    emu.rest("DELETE", f"/serverless/{endpoint_id}")
    until(lambda: not emu.state()["workers"])
    (used,) = emu.state()["billing"]

    totals = billing(emu, "/serverless", "bucketSize=hour&lastN=2")["metadata"]["totals"]

    seconds = used["executedSeconds"] + used["idleSeconds"]
    assert totals["gpuAmount"] == pytest.approx(2 * 0.00031 * seconds, rel=1e-3)
    assert totals["cpuAmount"] == 0


def test_volumes_are_billed_by_size_tier_and_time(emu: Emulator) -> None:
    """What grew costs more from then on, what is deleted nothing more; a lag hides the newest part."""
    volumes = {
        tier: emu.rest(
            "POST", "/network-volumes", {"name": tier, "size": 1100, "dataCenter": "EU-RO-1", "type": tier}
        ).json()["id"]
        for tier in ("STANDARD", "HIGH_PERFORMANCE")
    }
    emu.advance(73 * HOUR)
    emu.rest("PATCH", f"/network-volumes/{volumes['STANDARD']}", {"size": 1200})
    emu.rest("DELETE", f"/network-volumes/{volumes['HIGH_PERFORMANCE']}")
    emu.advance(73 * HOUR)

    totals = billing(emu, "/network-volumes")["metadata"]["totals"]
    one = billing(emu, "/network-volumes", f"networkVolumeId={volumes['STANDARD']}")

    assert totals["standardAmount"] == pytest.approx(7.5 + 8.0, rel=1e-3)  # a tenth of a month each
    assert totals["highPerformanceAmount"] == pytest.approx(110 * 0.14, rel=1e-3)
    assert one["metadata"]["totals"]["totalAmount"] == pytest.approx(totals["standardAmount"], rel=1e-3)
    assert one["metadata"]["query"]["networkVolumeId"] == volumes["STANDARD"]
    days = billing(emu, "", "bucketSize=day")["records"]
    assert len(days) == 31
    assert sum(day["storageStandardAmount"] for day in days) == pytest.approx(15.5, rel=1e-3)
    emu.set(billing_lag_s=73 * HOUR)
    late = billing(emu, "/network-volumes")["metadata"]["totals"]["standardAmount"]
    assert late == pytest.approx(7.5, rel=1e-3)


@pytest.mark.parametrize("route", ["/pods", "/endpoints", "/clusters"])
def test_what_is_not_emulated_costs_nothing(emu: Emulator, route: str) -> None:
    """An answer of the documented shape, with zeros."""
    assert set(billing(emu, route, "lastN=3")["metadata"]["totals"].values()) == {0}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("bucketSize=decade", 422),
        ("lastN=0", 422),
        ("lastN=%C2%B2", 422),
        ("lastN=3&startTime=2026-06-01T00:00:00Z", 400),
        ("startTime=yesterday", 422),
        ("startTime=2026-06-01T00:00:00", 422),
        ("startTime=2026-06-02T00:00:00Z&endTime=2026-06-01T00:00:00Z", 400),
        ("lastN=999999999", 400),
        ("bucketSize=year&lastN=9000", 400),
        ("bucketSize=hour&startTime=1970-01-01T00:00:00Z", 400),
        ("startTime=0001-01-01T00:00:00%2B14:00", 422),
    ],
)
def test_a_window_that_cannot_be_is_refused(emu: Emulator, query: str, code: int) -> None:
    """422 for a malformed value, 400 for values that do not go together."""
    assert emu.rest("GET", f"/billing?{query}").status_code == code


@given(
    at=TIMES,
    size=st.sampled_from(SIZES),
)
def test_a_time_is_in_one_bucket(at: datetime, size: str) -> None:
    """Buckets lie side by side: the start of each is the end of the one before."""
    begin = snapped(at, size)
    end = following(begin, size)

    assert begin <= at < end
    assert snapped(begin, size) == begin
    assert snapped(end, size) == end
    assert following(snapped(begin - timedelta(seconds=1), size), size) == begin


@given(
    begin=TIMES,
    days=st.integers(1, 300),
    size=st.sampled_from(SIZES),
)
def test_a_window_is_widened_to_whole_buckets(begin: datetime, days: int, size: str) -> None:
    """Its start is snapped down, its end up, and its buckets fill it."""
    end = begin + timedelta(days=days)
    query = {"startTime": begin.isoformat(), "endTime": end.isoformat(), "bucketSize": size}

    window = read_window(Call({}, query, {}, None), end.timestamp())
    buckets = list(window.buckets())

    assert window.start <= begin < end <= window.end
    assert (buckets[0][0], buckets[-1][1]) == (window.start, window.end)
    assert all(one[1] == two[0] for one, two in pairwise(buckets))


def test_the_ledger_survives_a_restart(tmp_path: Path) -> None:
    """A run whose emulator was killed ends with the last thing that it wrote; overlapping jobs count once."""
    clock = Clock()
    ledger = Ledger(tmp_path / "ledger.json", clock)
    begin = clock.now()
    ledger.start(Run("e", "w", None, 0, "cpu3c", 2, 20, begin))
    clock.advance(10)
    ledger.executed("w", begin, begin + 4)
    ledger.executed("w", begin + 2, begin + 6)

    clock.advance(1000)
    (shown,) = Ledger(tmp_path / "ledger.json", clock).shown()

    assert shown["executedSeconds"] == pytest.approx(6)
    assert shown["idleSeconds"] == pytest.approx(4, abs=1)
