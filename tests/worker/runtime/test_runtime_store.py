"""Environments on a volume: packed, recorded, found again, and whole after a kill at any step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from backend.contract import EnvironmentRecord
from worker.runtime import archives, bootstrap, start
from worker.runtime.runtime_store import RuntimeStore

ROOT = Path(__file__).parents[3]
KEY = "a" * 64
FACTS: dict[str, Any] = {"kind": "ops", "python": "3.12", "platform": "linux", "packages": {}, "torch": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small environment: a module, a program, a link, a file with bytes that don't compress."""
    result = tmp_path / "environment"
    (result / "packages/bin").mkdir(parents=True)
    (result / "packages/module.py").write_text("x = 1\n")
    (result / "packages/bin/program").write_text("#!/bin/sh\n")
    (result / "packages/bin/program").chmod(0o700)
    (result / "packages/link").symlink_to("module.py")
    (result / "packages/large.so").write_bytes(os.urandom(3_000_000))
    return result


def test_an_environment_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    """Content, links and the right to execute survive; times and owners don't count."""
    store = RuntimeStore(tmp_path / "runtime")
    record = store.publish(folder, KEY, FACTS)
    archive = store.archive(record)
    target = tmp_path / "disk/environment"

    bootstrap.unpack(str(archive), record["sha256"], str(target), archives.opener(archive.name))

    assert store.verified(KEY) == record
    assert store.find_archive(KEY, record["sha256"]) == archive
    assert (target / "packages/large.so").read_bytes() == (folder / "packages/large.so").read_bytes()
    assert (target / "packages/link").readlink() == Path("module.py")
    assert (target / "packages/bin/program").stat().st_mode & 0o777 == 0o755
    assert (target / "packages/module.py").stat().st_mode & 0o777 == 0o644
    os.utime(folder / "packages/module.py", (1, 1))
    assert store.publish(folder, KEY, FACTS) == record


@pytest.mark.parametrize("ending", [archives.GZIP, archives.ZSTD])
@pytest.mark.parametrize("position", [0, 1_000_000, -1])
def test_a_wrong_byte_is_found(folder: Path, tmp_path: Path, ending: str, position: int) -> None:
    """Nothing of such an archive becomes a folder."""
    if ending == archives.ZSTD and not archives.can_open(f"x{ending}"):
        pytest.skip("this machine does not have the program zstd")
    path = tmp_path / f"archive{ending}"
    with path.open("wb") as file:
        archives.write(folder, file, ending)
    digest = archives.digest(path)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)

    with pytest.raises(bootstrap.Damaged):
        bootstrap.unpack(str(path), digest, str(tmp_path / "disk/x"), archives.opener(path.name))

    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("call", ["os.fsync", "os.chmod", "os.rename"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_kill_while_an_environment_is_published(
    folder: Path, tmp_path: Path, call: str, number: int
) -> None:
    """Before each step of the archive and of its record: no record without a whole archive; then it works."""
    root = tmp_path / "runtime"
    # os.fsync is called for the file and then for its folder.
    count = number * 2 - 1 if call == "os.fsync" else number
    publish = (
        "from pathlib import Path\n"
        "from worker.runtime.runtime_store import RuntimeStore\n"
        f"RuntimeStore(Path({str(root)!r})).publish(Path({str(folder)!r}), {KEY!r}, {FACTS!r})\n"
    )
    killer = (
        "import os, signal\n"
        f"real, left = {call}, [{count}]\n"
        "def step(*arguments):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*arguments)\n"
        f"{call} = step\n"
    )
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

    killed = subprocess.run([sys.executable, "-c", killer + publish], env=environ, check=False)

    store = RuntimeStore(root)
    assert killed.returncode == -signal.SIGKILL
    assert store.record(KEY) is None
    subprocess.run([sys.executable, "-c", publish], env=environ, check=True)
    assert store.verified(KEY) is not None
    assert store.listing(hash=True)["damaged"] == []


def test_a_record_that_does_not_fit_its_archive_is_not_believed(folder: Path, tmp_path: Path) -> None:
    """A cut archive, an absent one, a record of another key or form: not found."""
    store = RuntimeStore(tmp_path / "runtime")
    record = store.publish(folder, KEY, FACTS)
    path = store.archive(record)
    data = path.read_bytes()

    path.write_bytes(data[:-1])
    assert store.record(KEY) is None
    path.write_bytes(data[:-1] + b"x")
    assert store.record(KEY) == record
    assert store.verified(KEY) is None
    (store.environment(KEY) / "record.json").write_text("{}")
    assert store.record(KEY) is None
    names = (path.name, "record.json")
    assert store.listing()["damaged"] == [f"environments/{KEY}/{name}" for name in names]


@pytest.mark.parametrize(
    ("torch", "packages", "problem"),
    [
        (None, {}, None),
        ("2.10.0", {"torch": "2.10.0"}, None),
        ("2.9.1", {}, "locked against torch 2.9.1, and torch was not found in this image"),
    ],
)
def test_the_base_images_torch_must_be_the_recorded_one(
    torch: str | None, packages: dict[str, str], problem: str | None
) -> None:
    """An environment without torch of its own names the version that it was locked against."""
    found = start.torch_problem(cast("EnvironmentRecord", {"torch": torch, "packages": packages}))

    assert (found is None) if problem is None else (found is not None and problem in found)


@pytest.mark.parametrize(("version", "fits"), [("2.9.1+cu128", True), ("2.10.0", False)])
def test_a_torch_of_the_base_image_is_compared_without_its_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    """The part after the plus names a CUDA version; the rest decides."""
    (tmp_path / f"torch-{version}.dist-info").mkdir()
    about = f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
    (tmp_path / f"torch-{version}.dist-info/METADATA").write_text(about)
    monkeypatch.syspath_prepend(str(tmp_path))

    found = start.torch_problem(cast("EnvironmentRecord", {"torch": "2.9.1", "packages": {}}))

    assert (found is None) == fits
