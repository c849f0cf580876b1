"""Rules of the providers: what may be asked for, and what is deleted first when it is replaced."""

from __future__ import annotations

import pytest

from infra import providers


@pytest.mark.parametrize("count", [2.0, 4.0, 8.0, 16.0, 32.0])
def test_every_power_of_two_is_a_number_of_vcpus(count: float) -> None:
    """RunPod sells CPU workers in powers of two; each of them passes."""
    cpu = [{"id": "cpu3c", "vcpu_count": count}]

    answer = providers.EndpointProvider().check({}, {"name": "e", "image": "i", "cpu": cpu})

    assert answer.failures == []


def test_a_volume_that_moves_is_made_before_the_old_one_goes() -> None:
    """An endpoint gives its worker quota free first; a volume holds files, and is never deleted first."""
    volume, endpoint = providers.NetworkVolumeProvider(), providers.EndpointProvider()
    here = {"name": "v", "size_gb": 20.0, "data_center": "EU-RO-1"}
    queue = {"name": "e", "image": "i", "gpu_pools": ["A"], "type": "QUEUE"}

    moved = volume.diff("id", here, {**here, "data_center": "US-KS-2"})
    changed = endpoint.diff("id", queue, {**queue, "type": "LOAD_BALANCER"})

    assert (moved.replaces, moved.delete_before_replace) == (["data_center"], False)
    assert (changed.replaces, changed.delete_before_replace) == (["type"], True)
