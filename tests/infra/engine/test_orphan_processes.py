"""What a CLI leaves behind that was killed, and what is left alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.engine import orphan_processes
from infra.engine.orphan_processes import MARK
from infra.engine.pulumi_cli import Pulumi, environment, run
from tests.support.deadlines import HANG_S
from tests.support.emulation import alive, until


@pytest.fixture
def processes() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def sleeping(
    processes: contextlib.ExitStack, program: str = "sleep", **variables: str
) -> subprocess.Popen[bytes]:
    """Start a process that waits for ever, as a provider that was never asked anything."""
    process = subprocess.Popen(
        [program, "600"], env={"PATH": os.defpath, **variables}, start_new_session=True
    )
    processes.callback(process.wait)
    processes.callback(process.kill)
    return process


def test_what_a_killed_cli_started_ends_with_the_command(tmp_path: Path) -> None:
    """The command that ran it sees its end, and ends the rest at once."""
    program = tmp_path / "pulumi"
    program.write_text("#!/bin/sh\nsetsid sleep 600 > /dev/null & echo $! > started\nkill -KILL $$\n")
    program.chmod(0o700)
    cli = Pulumi(program, "3", "PATH")

    done = run(cli, ["up"], environ=environment(cli, {"PATH": os.defpath}, data=tmp_path), project=tmp_path)
    started = int((tmp_path / "started").read_text())

    assert done.returncode == -9
    until(lambda: not alive(started))


def test_where_the_command_was_killed_too_the_next_one_sees_to_it(
    tmp_path: Path, processes: contextlib.ExitStack
) -> None:
    """Not while the CLI lives on, which is known by its name then."""
    starter = subprocess.Popen(["true"])
    starter.wait()
    program = tmp_path / "pulumi"
    shutil.copyfile(shutil.which("sleep") or "", program)
    program.chmod(0o700)
    mark = {MARK: str(starter.pid)}
    cli, provider = sleeping(processes, str(program), **mark), sleeping(processes, **mark)

    orphan_processes.end()
    spared = (cli.poll(), provider.poll())
    cli.kill()
    cli.wait()
    orphan_processes.end()

    assert spared == (None, None)
    assert provider.wait(HANG_S) == -9


def test_nobody_elses_process_is_ended(processes: contextlib.ExitStack) -> None:
    """One without the mark, and the child of a starter that lives."""
    without, child = sleeping(processes), sleeping(processes, **{MARK: str(os.getpid())})

    orphan_processes.end()

    assert (without.poll(), child.poll()) == (None, None)
