"""Keep the other programs of this container out of the worker's memory, and so away from its keys.

A program may read the environment and the memory of another program of its user through ``/proc``,
and attach to it. Linux refuses that for a process that is not "dumpable",
unless the reader has a capability such as SYS_PTRACE,
which `worker.comfyui.die_with_parent` takes from ComfyUI.
It is a boundary around keys in memory, not around the container:
node packs run as the same user, and read and write the files that the worker can.

Source: man 2 prctl (PR_SET_DUMPABLE), man 2 ptrace ("Ptrace access mode checking"), man 5 proc.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def close(secrets: frozenset[str]) -> list[str]:
    """Make this process unreadable for other programs of its user, before the first of them starts.

    Args:
        secrets: names of the variables that no other program may read.

    Returns:
        A sentence for each way that stays open.
    """
    if sys.platform != "linux":
        return []
    open_ways = [
        f"Process {pid} ({name}), which started the worker, has {' and '.join(found)} in its environment, "
        "where node packs can read it: start the worker in its place, with exec."
        for pid, name, found in _ancestors_with(secrets)
    ]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        open_ways.append(f"Node packs can read the worker's keys through /proc: {reason}.")
    return open_ways


def _ancestors_with(secrets: frozenset[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Find the programs above this one whose environment holds secrets and can be read."""
    pid = os.getppid()
    while pid > 0:
        folder = Path(f"/proc/{pid}")
        try:
            fields = dict(
                line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line
            )
        except OSError:
            return
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            variables = []
        found = [name for item in variables if (name := os.fsdecode(item.partition(b"=")[0])) in secrets]
        if found:
            yield pid, fields.get("Name", "?"), sorted(found)
        pid = int(fields.get("PPid", "0"))
