"""The catalog's filters: what each one narrows, and how a wrong one is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import openapi
from tests.support.emulation import Emulator

STOCK = "include=AVAILABILITY&product=SERVERLESS"


def gpus(emu: Emulator, query: str) -> dict[str, dict[str, Any]]:
    """GPU types by id; the answer is one that the document has."""
    reply = emu.rest("GET", f"/catalog/gpus?{query}")
    assert reply.status_code == 200, reply.text
    assert openapi.problems("GET", "/catalog/gpus", reply) == []
    return {gpu["id"]: gpu for gpu in reply.json()["gpus"]}


def test_countries_narrow_the_list_and_the_data_centers(emu: Emulator) -> None:
    """A type without a data center there drops out of the list; asked for by its id it shows NONE."""
    every, there = gpus(emu, STOCK), gpus(emu, f"{STOCK}&countryCodes=CZ,RO")

    assert set(there) < set(every)
    assert {center["id"] for gpu in there.values() for center in gpu["dataCenters"]} == {"EU-CZ-1", "EU-RO-1"}
    missing = next(iter(set(every) - set(there)))
    alone = emu.rest("GET", f"/catalog/gpus/{missing}?{STOCK}&countryCodes=CZ,RO").json()
    assert alone["availability"] == "NONE"
    assert "dataCenters" not in alone


@pytest.mark.parametrize(
    ("query", "versions"),
    [
        ("minCudaVersion=12.8", ["12.8", "13.0"]),
        ("minCudaVersion=13", ["13.0"]),
        ("minCudaVersion=12", ["12.4", "12.6", "12.8", "13.0"]),
        ("cudaVersions=12.6,12.8,9.9", ["12.6", "12.8"]),
    ],
)
def test_cuda_versions_are_compared_by_number_or_exactly(
    emu: Emulator, query: str, versions: list[str]
) -> None:
    """The floor compares numbers, the list matches exactly; both narrow what is shown."""
    gpu = gpus(emu, f"{STOCK}&{query}")["NVIDIA GeForce RTX 4090"]

    assert [each["version"] for each in gpu["cudaVersions"]] == versions
    assert gpu["availability"] == "HIGH"


@pytest.mark.parametrize("query", ["minCudaVersion=99.0", "count=64", "cloud=COMMUNITY", "cudaVersions=1.0"])
def test_what_no_machine_has_is_available_nowhere(emu: Emulator, query: str) -> None:
    """Every type is still listed, with NONE."""
    found = gpus(emu, f"{STOCK}&{query}")

    assert {gpu["availability"] for gpu in found.values()} == {"NONE"}


def test_a_cpu_flavor_has_so_many_vcpus(emu: Emulator) -> None:
    """More than it has are available nowhere."""
    few, many = (
        emu.rest("GET", f"/catalog/cpus?{STOCK}&vcpuCount={count}").json()["cpus"] for count in (4, 64)
    )

    assert {cpu["availability"] for cpu in few} == {"HIGH"}
    assert {cpu["availability"] for cpu in many} == {"NONE"}


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("gpus", "minCudaVersion=12.8", 400),
        ("gpus", "count=2", 400),
        ("gpus", "cloud=SECURE", 400),
        ("gpus", "countryCodes=FR", 400),
        ("gpus", "cudaVersions=12.8", 400),
        ("cpus", "vcpuCount=4", 400),
        ("gpus", f"{STOCK}&cudaVersions=12.8&minCudaVersion=12", 400),
        ("cpus", f"{STOCK}&vcpuCount=6", 400),
        ("gpus", f"{STOCK}&cudaVersions=12", 422),
        ("gpus", f"{STOCK}&minCudaVersion=twelve", 422),
        ("gpus", f"{STOCK}&countryCodes=fr", 422),
        ("gpus", f"{STOCK}&cloud=HOME", 422),
        ("gpus", f"{STOCK}&count=0", 422),
        ("gpus", f"{STOCK}&count=%C2%B2", 422),
        ("cpus", f"{STOCK}&vcpuCount=1", 422),
        ("gpus/NVIDIA L4", "count=2", 400),
    ],
)
def test_a_filter_out_of_place_or_malformed_is_refused(
    emu: Emulator, path: str, query: str, code: int
) -> None:
    """400 where availability is not asked for or filters exclude each other, 422 for a wrong value."""
    assert emu.rest("GET", f"/catalog/{path}?{query}").status_code == code
