"""Give up root before other people's code runs, where the volume and the image allow it."""

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Final, NoReturn

USER: Final = 1000
"""The user of the project's own images; 0 in COMFYFORM_UID keeps root."""
OWN: Final = ".comfyform"
_PR_SET_NO_NEW_PRIVS: Final = 38
_TRIAL: Final = """
import os, sys
for folder in sys.argv[1:]:
    path = os.path.join(folder, ".comfyform-trial")
    open(path, "w").close()
    os.remove(path)
"""


def drop(environ: MutableMapping[str, str], volume: Path) -> str | None:
    """Become an ordinary user, and set what its programs expect in the environment.

    Returns:
        Why this process stays root; None once it has no rights, or had none.
    """
    uid = int(environ.get("COMFYFORM_UID", USER))
    if os.getuid() != 0 or uid == 0:
        return None
    shared = [volume, volume / OWN] if volume.is_dir() else []
    for folder in shared:
        folder.mkdir(exist_ok=True)
    for path in _owned(volume):
        with contextlib.suppress(OSError):  # a volume may refuse it; the trial tells whether it matters
            os.chown(path, uid, uid, follow_symlinks=False)
    if (reason := _trial(uid, shared)) is not None:
        return f"This worker runs as root: {reason}."
    home = Path(environ.get("TMPDIR", "/tmp")) / f"home-{uid}"  # noqa: S108 - the container's own disk
    home.mkdir(exist_ok=True, mode=0o700)
    os.chown(home, uid, uid)
    environ.update(HOME=str(home), USER="comfy", LOGNAME="comfy")
    os.chdir(home)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    os.umask(0o022)
    # A program with the setuid bit gives nothing back.
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return None


def _owned(volume: Path) -> Iterator[Path]:
    """Yield what root created on the volume and a worker writes: folders, and the project's own small files.

    Not the files of models: a folder's owner can replace and delete them.
    """
    for parent, folders, files in os.walk(volume):
        yield Path(parent)
        inside = Path(parent).relative_to(volume).parts[:1] == (OWN,)
        yield from (Path(parent, name) for name in files if inside)
        folders[:] = [name for name in folders if not Path(parent, name).is_symlink()]


def _trial(uid: int, folders: list[Path]) -> str | None:
    """Let the user run Python and write; return what it cannot do."""
    command = [sys.executable, "-S", "-c", _TRIAL, *map(str, folders)]
    try:
        result = subprocess.run(
            command,
            user=uid,
            group=uid,
            extra_groups=[],
            env={},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
    except PermissionError:
        return f"user {uid} cannot execute {sys.executable}"
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        return f"user {uid} cannot write to the volume ({last})"
    return None


def replace_process(arguments: list[str], environ: MutableMapping[str, str]) -> NoReturn:
    """Become another program of this Python; the process keeps its id, so that signals arrive."""
    os.execve(sys.executable, [sys.executable, "-P", *arguments], dict(environ))  # noqa: S606 - from an argument list
