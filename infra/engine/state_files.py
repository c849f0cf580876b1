"""Pulumi's state in a folder of this machine: who has locked a stack, and what a killed CLI half wrote.

Backends elsewhere (Pulumi Cloud, a bucket) look after themselves: they have no folder.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from backend.flow.atomic_file import write_atomically

_LOCKS: Final = Path("locks", "organization")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file.

    Attributes:
        gone: the process that made it ran on this machine and is no more.
    """

    path: Path
    pid: int
    host: str
    since: str
    gone: bool


def state_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder that Pulumi keeps its state in, or None where it is elsewhere."""
    backend = urlsplit(environ.get("PULUMI_BACKEND_URL", ""))
    return Path(unquote(backend.path)) / ".pulumi" if backend.scheme == "file" else None


def locks(folder: Path | None, project: str, stack: str) -> Iterator[Lock]:
    """List a stack's locks."""
    if folder is None:
        return
    for path in sorted((folder / _LOCKS / project / stack).glob("*.json")):
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # somebody just writes or removes it
        pid, host = int(told.get("pid", 0)), str(told.get("hostname", ""))
        gone = host == socket.gethostname() and not _runs(pid)
        yield Lock(path, pid, host, str(told.get("timestamp", "")), gone)


def unlock(folder: Path | None, pid: int) -> None:
    """Remove the locks, of any project and stack, that an ended process of this machine has left.

    Between a preview and the update the CLI catches no Ctrl-C, and dies of it with its lock in place.
    """
    if folder is None:
        return
    for stack in (folder / _LOCKS).glob("*/*"):
        for lock in locks(folder, stack.parent.name, stack.name):
            if lock.pid == pid and lock.gone:
                lock.path.unlink(missing_ok=True)
                lock.path.with_name(f"{lock.path.name}.attrs").unlink(missing_ok=True)


def repair(folder: Path | None, project: str, stack: str) -> list[str]:
    """Put right what a CLI that was killed while it wrote has left; every command would fail on it.

    The attributes beside a checkpoint (content type and hash, which are never read)
    are written in place and can be cut off: they may go. A checkpoint that is cut
    off itself is replaced by the one before it, which is kept beside it; what was
    made since is found and adopted by the next ``up``.

    Not for a stack that is in use.

    Returns:
        What was done, a sentence each.
    """
    if folder is None:
        return []
    checkpoint = folder / "stacks" / project / f"{stack}.json"
    before = checkpoint.with_name(f"{checkpoint.name}.bak")
    said = []
    for path in (checkpoint, before):
        attributes = path.with_name(f"{path.name}.attrs")
        if attributes.exists() and not _is_json(attributes):
            attributes.unlink()
            if path == checkpoint:
                said.append(
                    "The last run was killed while it wrote the state: its broken attributes removed."
                )
    if checkpoint.exists() and not _is_json(checkpoint) and _is_json(before):
        write_atomically(checkpoint, before.read_bytes(), mode=before)
        said.append("The last run was killed while it wrote the state: the one before it restored.")
    return said


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _runs(pid: int) -> bool:
    """Tell whether a process is there."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
