"""What a request to the catalog asks availability for: its filters, checked. Pure.

Source: REST v2 openapi, listGpuTypes and listCpuTypes: every filter is valid only with include=AVAILABILITY,
which needs `product`; a filter out of place is a 400, a malformed one a 422.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from emulator.numbers import whole_number
from emulator.rest.call import Call
from emulator.rest.problems import conflict, invalid
from emulator.rest.schema import quoted

GPU_PRODUCTS, CPU_PRODUCTS = ("POD", "CLUSTER", "SERVERLESS"), ("POD", "SERVERLESS")
GPU_FILTERS = ("count", "cloud", "countryCodes", "cudaVersions", "minCudaVersion")
CPU_FILTERS = ("vcpuCount",)
_NATIONS = ("US", "CA")
"""First parts of data centers' ids that are countries; elsewhere the second part is, as in EU-RO-1."""


@dataclass(frozen=True, slots=True)
class GpuScope:
    """The GPUs that are asked for.

    Attributes:
        count: on one machine.
        countries: ISO codes; empty for all.
        cuda: exact versions; empty for all.
        least_cuda: the lowest one, compared numerically.
    """

    count: int = 1
    cloud: str = "SECURE"
    countries: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    least_cuda: tuple[int, ...] = ()

    def centers(self, names: Iterable[str]) -> list[str]:
        """Choose the data centers that are in the countries."""
        return [name for name in names if not self.countries or country(name) in self.countries]

    def versions(self, offered: Iterable[str]) -> list[str]:
        """Choose the CUDA versions that fit."""
        return [
            version
            for version in offered
            if (not self.cuda or version in self.cuda) and _numbers(version) >= self.least_cuda
        ]


@dataclass(frozen=True, slots=True)
class CpuScope:
    """The CPUs that are asked for."""

    vcpu_count: int = 2


def gpu_scope(call: Call) -> GpuScope | None:
    """Read the filters of a request for GPUs; None where availability is not asked for.

    Raises:
        Problem: a filter is malformed or out of place.
    """
    count = _number(call, "count", 1)
    cloud = call.query.get("cloud", "SECURE")
    if cloud not in ("SECURE", "COMMUNITY"):
        raise invalid("$.cloud: value must be one of 'SECURE', 'COMMUNITY'")
    countries = _matching(call, "countryCodes", r"[A-Z]{2}")
    cuda = _matching(call, "cudaVersions", r"[0-9]+\.[0-9]+")
    least = _matching(call, "minCudaVersion", r"[0-9]+(\.[0-9]+)?")
    if not _availability(call, GPU_PRODUCTS, GPU_FILTERS):
        return None
    if cuda and least:
        raise conflict("cudaVersions and minCudaVersion are mutually exclusive")
    return GpuScope(count, cloud, countries, cuda, _numbers(least[0]) if least else ())


def cpu_scope(call: Call) -> CpuScope | None:
    """Read the filters of a request for CPUs; None where availability is not asked for.

    Raises:
        Problem: a filter is malformed or out of place.
    """
    count = _number(call, "vcpuCount", 2)
    if not _availability(call, CPU_PRODUCTS, CPU_FILTERS):
        return None
    if count & (count - 1):
        raise conflict("vcpuCount must be a power of two")
    return CpuScope(count)


def checked_words(call: Call, name: str, choices: tuple[str, ...]) -> list[str]:
    """Read a comma-separated parameter whose words are of a list."""
    words = call.words(name)
    if not set(words) <= set(choices):
        raise invalid(f"$.{name}: value must be one of {quoted(choices)}")
    return words


def country(data_center: str) -> str:
    """Name the country of a data center by its id: `US-KS-2` is in US, `EU-RO-1` in RO."""
    first, _, rest = data_center.partition("-")
    return first if first in _NATIONS else rest.partition("-")[0]


def _availability(call: Call, products: tuple[str, ...], filters: tuple[str, ...]) -> bool:
    include = checked_words(call, "include", ("AVAILABILITY",))
    product = checked_words(call, "product", products)
    if bool(include) != bool(product):
        raise conflict("include=AVAILABILITY and product must be given together")
    stray = [name for name in filters if name in call.query]
    if stray and not include:
        raise conflict(f"{', '.join(stray)}: valid only with include=AVAILABILITY")
    return bool(include)


def _number(call: Call, name: str, least: int) -> int:
    value = whole_number(call.query.get(name, str(least)))
    if value is None:
        raise invalid(f"$.{name}: got string, want integer")
    if value < least:
        raise invalid(f"$.{name}: minimum: got {value}, want {least}")
    return value


def _matching(call: Call, name: str, pattern: str) -> tuple[str, ...]:
    words = call.words(name)
    for word in words:
        if not re.fullmatch(pattern, word):
            raise invalid(f"$.{name}: '{word}' does not match pattern '^{pattern}$'")
    return tuple(words)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
