"""What a container on a base image does with what is on its volume: real processes on the emulated RunPod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.runtime.start_command import program
from tests.support.emulation import Emulator
from tests.support.volume_runtime import BASE, VolumeEndpoint, code, install_job, key

pytestmark = pytest.mark.slow


@pytest.fixture
def ops(emu: Emulator, tmp_path: Path) -> VolumeEndpoint:
    """An ops endpoint with its code and its environment on the volume."""
    endpoint = VolumeEndpoint(emu, code())
    endpoint.output(**install_job(code()))
    endpoint.provide(tmp_path)
    return endpoint


def flip(path: Path, position: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_second_start_downloads_and_unpacks_nothing(ops: VolumeEndpoint, emu: Emulator) -> None:
    """After a crash the same container goes on with its own disk; a worker only takes, reports and pings."""
    first = ops.output(action="debug")["start"]
    before = len(emu.requests(path="/jobs/*"))
    archives = list(ops.store.root.rglob("*.tar.*"))
    for path in archives:  # reading one of them would refuse it
        flip(path, -9)

    ops.restart()
    second = ops.output(action="debug")["start"]

    paths = {request["path"].split("/")[4] for request in emu.requests(path="/jobs/*")[before:]}
    assert paths <= {"job-take", "job-take-batch", "job-done", "job-stop", "ping", "runsync", "status"}
    assert len(archives) == 2
    assert all(path.exists() for path in archives)
    assert first.keys() == second.keys() == {"code_s", "ops_s", "worker_s"}


def test_another_worker_needs_only_the_volume(ops: VolumeEndpoint, emu: Emulator, tmp_path: Path) -> None:
    """A second endpoint with the same code starts without any install."""
    ops.output(action="health")
    other = VolumeEndpoint(emu, code(), volume_id=ops.volume_id)

    assert other.output(action="health")["worker_version"].endswith(code().sha256[:12])
    assert [job["action"] for job in emu.submitted().values()].count("install") == 1


def test_damaged_code_is_refused_and_installed_again(ops: VolumeEndpoint, emu: Emulator) -> None:
    """Nothing of it runs; it is moved aside, and the next install makes the worker whole."""
    path = ops.store.root / f"code/{code().sha256}.tar.gz"
    flip(path, 200_000)
    other = VolumeEndpoint(emu, code(), volume_id=ops.volume_id)

    assert "run `pulumi up`" in other.error(action="health")
    assert not path.exists()
    assert "refused" in other.log()
    other.output(**install_job(code()))
    assert other.output(action="health")["worker_version"].endswith(code().sha256[:12])
    assert other.output(action="runtime")["runtime"]["damaged"] == [f"code/{path.name}.damaged"]


def test_a_damaged_environment_is_refused(ops: VolumeEndpoint, emu: Emulator, tmp_path: Path) -> None:
    """The worker does not start from it, and starts once it is there again."""
    record = ops.store.record(key())
    assert record is not None
    flip(ops.store.archive(record), -9)
    other = VolumeEndpoint(emu, code(), volume_id=ops.volume_id)

    assert "the ops environment was not found" in other.error(action="health")
    listing = other.output(action="runtime")["runtime"]
    assert listing["environments"] == []
    assert f"environments/{key()}/{record['archive']}.damaged" in listing["damaged"]
    other.provide(tmp_path)
    other.restart()
    assert other.output(action="debug")["start"]["ops_s"] >= 0


def test_a_generation_endpoint_waits_and_says_what_to_do(emu: Emulator) -> None:
    """It takes no install: its job ends with the command that helps."""
    endpoint = VolumeEndpoint(emu, code(), role="generation", COMFYFORM_RUNTIME_WAIT_S="0")

    assert endpoint.error(**install_job(code())) == "the runtime is not on the volume: run `pulumi up`"
    assert not (endpoint.store.root / "code").exists()


def test_an_old_python_refuses(emu: Emulator) -> None:
    """Without tarfile's filters nothing is unpacked, and the jobs say why."""
    text = f"import tarfile; del tarfile.data_filter; {program()}"
    args = json.dumps({"cmd": ["python3", "-c", text]})

    assert "3.11.4 or newer is required" in VolumeEndpoint(emu, code(), args=args).error(action="health")


def test_wrong_jobs_before_the_install(emu: Emulator) -> None:
    """Other code, wrong bytes and other actions are refused; the message tells them apart."""
    ops = VolumeEndpoint(emu, code())
    job = install_job(code())

    assert ops.error(**{**job, "sha256": "0" * 64}).startswith("another version: ")
    assert "the archive's sha256 is" in ops.error(**{**job, "archive": job["archive"][4:]})
    assert "run `pulumi up`" in ops.error(action="provision", models=[])


def test_an_environment_of_another_version_is_not_built(ops: VolumeEndpoint) -> None:
    """The worker computes the key from its own locks; a sender of another version is told."""
    job = {"action": "build_environment", "kind": "generation", "base": BASE}

    error = ops.error(**job, key=key("ops"))

    assert error.startswith("another version: this worker's code makes the generation environment")


def test_pruning_keeps_what_is_named_and_what_runs(ops: VolumeEndpoint) -> None:
    """Everything else goes; the worker's own code and environment always stay."""
    (ops.store.root / "code" / f"{'1' * 64}.tar.gz").write_bytes(b"old")
    (ops.store.root / "environments" / ("2" * 64)).mkdir()
    (ops.store.root / "environments" / ("3" * 64)).mkdir()

    removed = ops.output(action="runtime_prune", keep=["3" * 64])["removed"]

    assert removed == [f"code/{'1' * 64}.tar.gz", f"environments/{'2' * 64}"]
    assert ops.store.code() == [code().sha256]
    assert ops.store.record(key()) is not None
