"""A worker gives up root where it can, and says why where it cannot. Needs root: only root can give it up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
PROBE = """
import json, os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from worker.runtime import privileges
environ = dict(os.environ)
note = privileges.drop(environ, Path({volume!r}))
status = Path("/proc/self/status").read_text()
print(json.dumps([note, os.getuid(), os.getgroups(), environ.get("HOME"), "NoNewPrivs:\\t1" in status]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can give up root"),
]


@pytest.fixture
def volume() -> Iterator[Path]:
    """A volume that root owns, below a folder that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        result = Path(folder, "volume")
        (result / "models/checkpoints").mkdir(parents=True)
        (result / "models/checkpoints/a").write_text("a")
        yield result


def probe(volume: Path, python: str, **env: str) -> list[Any]:
    """Give up root in a process of its own, and return what it is then."""
    code = PROBE.format(root=str(ROOT), volume=str(volume))
    environ = {"TMPDIR": str(volume.parent), "HOME": "/root", **env}
    done = subprocess.run([python, "-c", code], env=environ, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


@pytest.mark.skipif(PYTHON is None, reason="no Python that every user can execute")
def test_root_is_given_up_with_its_groups_and_its_home(volume: Path) -> None:
    """The user owns the volume's folders, has a home of its own, and cannot come back."""
    assert PYTHON is not None
    note, uid, groups, home, locked = probe(volume, PYTHON)

    assert (note, uid, groups, locked) == (None, 1000, [], True)
    assert home == str(volume.parent / "home-1000")
    assert (volume / "models/checkpoints").stat().st_uid == 1000
    assert (volume / "models/checkpoints/a").stat().st_uid == 0


def test_a_python_that_the_user_cannot_execute_keeps_root(volume: Path) -> None:
    """An interpreter in root's home would fail after the change: it is tried before."""
    hidden = volume.parent / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "python").symlink_to(sys.executable)

    note, uid, *_ = probe(volume, str(hidden / "python"))

    assert uid == 0
    assert note.startswith("This worker runs as root: user 1000 cannot execute")


@pytest.mark.skipif(PYTHON is None, reason="no Python that every user can execute")
def test_a_volume_that_the_user_cannot_reach_keeps_root(volume: Path) -> None:
    """The trial writes a file; its failure is the reason."""
    assert PYTHON is not None
    volume.parent.chmod(0o700)

    note, uid, *_ = probe(volume, PYTHON)

    assert uid == 0
    assert "user 1000 cannot write to the volume (PermissionError" in note
    assert probe(volume, PYTHON, COMFYFORM_UID="0")[:2] == [None, 0]
