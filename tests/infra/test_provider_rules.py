"""Rules of the providers: what may be asked for, and what is deleted first when it is replaced."""

from __future__ import annotations

import pytest

from infra import models, providers
from tests.support.emulation import IMAGES, Emulator


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


def test_a_model_is_not_deleted_on_another_volume(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ops endpoint has moved on: a job to it would delete a file of that name on the new volume."""
    for name, value in (emu.env | {"COMFYFORM_TIMEOUT_S": "5"}).items():
        monkeypatch.setenv(name, value)
    here, there = (
        emu.rest("POST", "/network-volumes", {"name": name, "size": 10, "dataCenter": "EU-RO-1"}).json()["id"]
        for name in ("old", "new")
    )
    endpoint = {
        "name": "ops",
        "image": next(iter(IMAGES)),
        "type": "QUEUE",
        "networkVolumes": [there],
        "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
        "workers": {"min": 0, "max": 1, "idleTimeout": 60},
        "cpu": [{"id": "cpu3c", "vcpuCount": 2}],
    }
    created = emu.rest("POST", "/serverless", endpoint)
    assert created.status_code < 300, created.text
    props = {
        "volume_id": here,
        "endpoint_id": created.json()["id"],
        "path": "models/loras/a.safetensors",
        "transport": "job",
    }

    models.remove(props)

    assert emu.requests("POST", "/jobs/*") == []
