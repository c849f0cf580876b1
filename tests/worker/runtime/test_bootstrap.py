"""The first program of a container: unpacking, publishing, and what it does where something is wrong."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from backend.errors import ConfigError
from ops.runtime import code_archive, start_command
from worker.runtime import bootstrap

ROOT = Path(__file__).parents[3]
FILES = {"worker/__init__.py": b"", "worker/data.bin": bytes(range(256)) * 2000}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def archive(path: Path, files: dict[str, bytes] | None = None, tail: bytes = b"") -> str:
    """Write a tar.gz, and return its sha256."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (FILES if files is None else files).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(buffer.getvalue() + tail, mtime=0))
    return sha256(path.read_bytes())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def child(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program that may import ours."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )


def test_the_start_command_fits_and_needs_no_quotes() -> None:
    """It is far below its bound, says the same as JSON and as words of a shell, and compiles."""
    command = start_command.start_command()
    program = json.loads(command)["cmd"][2]

    assert len(command) < start_command.LONGEST * 0.75
    assert not set(program) & set("'\\$`!\n")
    assert shlex.split(shlex.join(["python3", "-c", program]))[2] == program
    compile(program, "args", "exec")


def test_the_start_command_leaves_lines_out_and_changes_none() -> None:
    """Each line is one of the source: another Python makes the same bytes."""
    source = start_command.BOOTSTRAP.read_text()
    lines = {re.sub(r"  # .*", "", line).strip() for line in source.splitlines()}
    compact = start_command.compact(source)

    assert {line.strip() for line in compact.splitlines()} <= lines
    assert '"""' not in compact


def test_the_same_sources_give_the_same_archive(tmp_path: Path) -> None:
    """Times, order and bytecode do not count; a changed file does."""
    for name in ("worker", "ops", "backend"):
        (tmp_path / name / "__pycache__").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text(f'"""{name}"""\n')
    first = code_archive.pack(tmp_path)
    os.utime(tmp_path / "ops/__init__.py", (1, 1))
    (tmp_path / "ops/__pycache__/a.pyc").write_bytes(b"x")

    assert code_archive.pack(tmp_path) == first
    assert code_archive.pack(tmp_path, {"worker/comfyui.lock": b"x"}).sha256 != first.sha256
    (tmp_path / "ops/__init__.py").unlink()
    with pytest.raises(ConfigError, match="ops not found"):
        code_archive.pack(tmp_path)


def test_an_archive_becomes_a_folder_that_every_user_can_read(tmp_path: Path) -> None:
    """Files have their bytes; the folder is open although it was created as a private one."""
    digest = archive(tmp_path / "a")

    bootstrap.unpack(str(tmp_path / "a"), digest, str(tmp_path / "disk/code"))

    assert (tmp_path / "disk/code/worker/data.bin").read_bytes() == FILES["worker/data.bin"]
    assert (tmp_path / "disk/code").stat().st_mode & 0o777 == 0o755
    assert names(tmp_path / "disk") == ["code"]


@pytest.mark.parametrize("position", [0, 5, 300, -1])
def test_wrong_bytes_are_refused_and_leave_nothing(tmp_path: Path, position: int) -> None:
    """Wherever the wrong byte is: in the head, in the content, in the checksum at the end."""
    digest = archive(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    data[position] ^= 1
    (tmp_path / "a").write_bytes(data)

    with pytest.raises(bootstrap.Damaged):
        bootstrap.unpack(str(tmp_path / "a"), digest, str(tmp_path / "disk/code"))

    assert names(tmp_path / "disk") == []


def test_bytes_after_the_end_of_the_tar_are_hashed_too(tmp_path: Path) -> None:
    """A tar's reader stops at its end mark; what follows counts."""
    digest = archive(tmp_path / "a", tail=bytes(3_000_000))
    bootstrap.unpack(str(tmp_path / "a"), digest, str(tmp_path / "disk/whole"))
    with (tmp_path / "a").open("ab") as file:
        file.write(b"more")

    with pytest.raises(bootstrap.Damaged):
        bootstrap.unpack(str(tmp_path / "a"), digest, str(tmp_path / "disk/longer"))


def test_a_full_disk_is_not_the_archives_fault(tmp_path: Path) -> None:
    """Where the disk takes no more, the error is the disk's, and the archive is not called damaged."""
    digest = archive(tmp_path / "a")

    result = child(
        "import resource, sys\n"
        "from worker.runtime import bootstrap\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"bootstrap.unpack({str(tmp_path / 'a')!r}, {digest!r}, {str(tmp_path / 'disk/code')!r})"
    )

    assert "OSError: [Errno 27] File too large" in result.stderr
    assert "Damaged" not in result.stderr
    assert names(tmp_path / "disk") == []


def test_a_name_outside_the_folder_is_refused(tmp_path: Path) -> None:
    """An archive cannot write beside its folder, even where its sha256 is right."""
    digest = archive(tmp_path / "a", {"../outside": b"x"})

    with pytest.raises(tarfile.OutsideDestinationError):
        bootstrap.unpack(str(tmp_path / "a"), digest, str(tmp_path / "disk/code"))

    assert not (tmp_path / "disk/outside").exists()


@pytest.mark.slow
def test_four_at_once_leave_one_folder(tmp_path: Path) -> None:
    """The first rename wins; the others take its folder, and nothing is left over."""
    digest = archive(tmp_path / "a", {f"f{number}": bytes(20_000) for number in range(300)})
    code = (
        "from worker.runtime import bootstrap\n"
        f"bootstrap.unpack({str(tmp_path / 'a')!r}, {digest!r}, {str(tmp_path / 'disk/code')!r})"
    )
    command = [sys.executable, "-c", code]
    children = [
        subprocess.Popen(command, env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}) for _ in range(4)
    ]

    assert [process.wait() for process in children] == [0] * 4
    assert names(tmp_path / "disk") == ["code"]
    assert len(names(tmp_path / "disk/code")) == 300


def test_what_a_kill_left_aside_is_removed_after_an_hour(tmp_path: Path) -> None:
    """An old leftover goes; a young one may belong to a worker that is writing it."""
    for name in (".old.pod1", ".young.pod2", "whole"):
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / ".old.pod1", (1, 1))
    os.utime(tmp_path / "whole", (1, 1))

    bootstrap.publish(str(tmp_path), "new", lambda file: file.write(b"y"))

    assert names(tmp_path) == [".young.pod2", "new", "whole"]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["bootstrap.sweep", "os.fsync", "os.chmod", "os.rename"])
def test_a_kill_while_code_is_installed_leaves_all_or_nothing(tmp_path: Path, step: str) -> None:
    """Killed before each step of the publication; the next install completes."""
    data = b"archive" * 1000
    job = {"sha256": sha256(data), "archive": base64.b64encode(data).decode()}
    install = f"bootstrap.install({job!r}, {str(tmp_path)!r})"
    result = child(
        "import os, signal\n"
        "from worker.runtime import bootstrap\n"
        f"{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n" + install
    )

    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not (tmp_path / f"code/{sha256(data)}.tar.gz").exists()
    again = child(f"from worker.runtime import bootstrap; {install}")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / f"code/{sha256(data)}.tar.gz").read_bytes() == data


def test_wrong_code_is_not_installed(tmp_path: Path) -> None:
    """The bytes must have the sha256 that the job names."""
    job = {"sha256": "0" * 64, "archive": base64.b64encode(b"x").decode()}

    with pytest.raises(ValueError, match=f"sha256 is {sha256(b'x')}, expected {'0' * 64}"):
        bootstrap.install(job, tmp_path)

    assert not (tmp_path / "code").exists()
