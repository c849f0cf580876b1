"""From an empty volume to the real worker: start command, code by job, pip from the index, an answer."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.emulation import Emulator
from tests.support.volume_runtime import VolumeEndpoint, code, install_job


@pytest.mark.slow
def test_an_empty_volume_becomes_a_worker(emu: Emulator) -> None:
    """Install, build, then the worker on the SDK answers; each archive has the bytes of its name."""
    ops = VolumeEndpoint(emu, code())

    assert "pulumi up" in ops.error(action="debug")
    installed = ops.output(**install_job(code()))
    assert installed["installed"] == code().sha256
    record = ops.build()
    health = ops.output(action="health")

    archive = ops.store.environment(record["key"]) / record["archive"]
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == record["sha256"]
    assert record["packages"]["runpod"].startswith("1.")
    assert health["worker_version"].endswith(code().sha256[:12])
    assert ops.build() == record
