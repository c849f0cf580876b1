"""Run a program and measure it: seconds, peak memory, processor time."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """What a program took: wall seconds, peak MiB, processor seconds."""

    seconds: float
    peak_mib: float
    cpu_s: float

    def plus(self, other: "Measured") -> "Measured":
        """Add what another program took afterwards."""
        return Measured(
            self.seconds + other.seconds, max(self.peak_mib, other.peak_mib), self.cpu_s + other.cpu_s
        )


def measure(command: Sequence[str], env: Mapping[str, str] | None = None) -> Measured:
    """Run a program to its end; it must succeed."""
    start = time.monotonic()
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: {errors.decode()[-800:]}")
    return Measured(seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def table(title: str, rows: Sequence[tuple[str, Measured]], size_bytes: int) -> None:
    """Print measurements side by side; the first row is ours."""
    print(f"\n{title}")
    print(f"{'':34}{'s':>8}{'MB/s':>8}{'× ours':>8}{'MiB':>8}{'cpu s':>8}")
    ours = rows[0][1].seconds
    for name, row in rows:
        rate = size_bytes / row.seconds / 1e6
        figures = f"{row.seconds:8.2f}{rate:8.0f}{row.seconds / ours:8.1f}"
        print(f"{name:34}{figures}{row.peak_mib:8.0f}{row.cpu_s:8.2f}")


def best(runs: Sequence[Measured]) -> Measured:
    """The quickest of several runs: what the machine can do when nothing else disturbs."""
    return min(runs, key=lambda run: run.seconds)


PYTHON = sys.executable
