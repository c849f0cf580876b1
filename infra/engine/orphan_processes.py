"""Ends what a Pulumi CLI that was killed leaves behind: its language host, and providers that wait.

A provider process that was at work ends by itself: `infra.provider_hooks` watches the engine.
One that was never asked anything runs none of our code and would wait without an end.
So each CLI is marked with who started it, and what it starts inherits the mark.
Processes are found where the system shows their variables, which is Linux; elsewhere they stay, idle.
"""

import contextlib
import os
import signal
from collections import defaultdict
from pathlib import Path
from typing import Final

MARK: Final = "COMFYFORM_STARTED_BY"
"""The variable with the process id of whoever started the CLI."""
_PROCESSES: Final = Path("/proc")


def end() -> None:
    """End every process of a CLI that is gone."""
    marked: dict[bytes, list[int]] = defaultdict(list)
    at_work: set[bytes] = set()
    for folder in _PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if starter := _starter(folder):
                marked[starter].append(int(folder.name))
                # The CLI itself: its starter's child, or known by its name where that was killed with it.
                parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[1]
                if parent == starter or (folder / "exe").readlink().name == "pulumi":
                    at_work.add(starter)
    for starter in marked.keys() - at_work:
        for pid in marked[starter]:
            _kill(pid, starter)


def _starter(folder: Path) -> bytes | None:
    """Read a process's mark."""
    prefix = f"{MARK}=".encode()
    variables = (folder / "environ").read_bytes().split(b"\0")
    return next((each.removeprefix(prefix) for each in variables if each.startswith(prefix)), None)


def _kill(pid: int, starter: bytes) -> None:
    """Kill a process, and none that has got its number meanwhile."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if _starter(_PROCESSES / str(pid)) == starter:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
