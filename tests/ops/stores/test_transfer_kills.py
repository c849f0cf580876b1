"""A process killed at every phase, and the gateway's own moods: the next run ends with the right bytes.

The program below is the product's own store; it kills itself at the n-th call
of one of its functions, which is where a machine may lose its power.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.errors import VolumeFull
from backend.flow.http_driver import Http
from ops.threads.retry import PACE
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.ops_places import FILE_GLOB, PATH, PIECE, QUICK, bytes_sent, folder, serve, sources_of
from tests.support.ops_shelf import PART, Shelf
from tests.support.worker_endpoint import Studio, until

LONG = 12 * PIECE + 5
UNDER_WAY = QUICK.piece_bytes * QUICK.connections

PROGRAM = """
import importlib, itertools, json, os, signal, sys
from pathlib import Path
from backend.flow.http_driver import Http
from tests.support.emulation import Emulator
from tests.support.ops_places import folder, sources_of
from tests.support.ops_shelf import Shelf
root, env, volume, wanted, where, number, after = json.loads(sys.argv[1])
module, _, name = where.rpartition(":")
*holders, function = name.split(".")
holder = importlib.import_module(module)
for part in holders:
    holder = getattr(holder, part)
real, calls = getattr(holder, function), itertools.count(1)

def deadly(*args, **kwargs):
    call = next(calls)
    if call == number and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    if call == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(holder, function, deadly)
emu = Emulator(None, env, Path(root).parent)
with Http() as http:
    store = Shelf(emu, http, Path(root), volume_id=volume).store() if volume else folder(
        Path(root), sources_of(emu, http)
    )
    store.provision([wanted])
"""

ON_DISK = {
    "before the first piece": ("ops.download.partial_file:Partial.begin", 1, True),
    "in the first piece": ("ops.download.partial_file:Partial.write", 1, True),
    "in the middle": ("ops.download.partial_file:Partial.write", 7, False),
    "in the flush at its end": ("ops.files.background_fsync:Flusher.flush", 1, True),
    "before it has its name": ("ops.download.verified:settle", 1, False),
    "when it has its name": ("ops.download.verified:settle", 1, True),
    "before its record": ("ops.stores.directory:FolderStore._write_record", 1, False),
    "after its record": ("ops.stores.directory:FolderStore._write_record", 1, True),
}
OVER_S3 = {
    "before the upload": ("ops.stores.s3_client:Bucket.begin_upload", 1, False),
    "between the upload and its note": ("ops.stores.s3_client:Bucket.begin_upload", 1, True),
    "after the note": ("ops.stores.s3_upload:UploadNote.write", 1, True),
    "in the first piece": ("ops.download.partial_file:Partial.write", 1, False),
    "between the fetch and the upload": ("ops.stores.s3:S3Store._upload", 1, False),
    "before a part": ("ops.stores.s3_client:Bucket.upload_part", 5, False),
    "after a part": ("ops.stores.s3_client:Bucket.upload_part", 5, True),
    "before all is put together": ("ops.stores.s3_client:Bucket.complete_upload", 1, False),
    "when all is put together": ("ops.stores.s3_client:Bucket.complete_upload", 1, True),
    "before its record": ("ops.stores.s3:S3Store._write_record", 1, False),
    "after its record": ("ops.stores.s3:S3Store._write_record", 1, True),
}


def die(emu: Emulator, root: Path, volume: str, wanted: Any, where: str, number: int, after: bool) -> None:
    """Run a store in a process of its own, until it kills itself."""
    arguments = json.dumps([str(root), emu.env, volume, wanted, where, number, after])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("at", ON_DISK.values(), ids=ON_DISK.keys())
def test_killed_on_a_disk(emu: Emulator, tmp_path: Path, at: tuple[str, int, bool]):
    """As in the worker: never wrong bytes under the name, and what was under way at most comes again."""
    served = serve(emu, size=LONG)
    die(emu, tmp_path, "", served.wanted(), *at)
    assert not (tmp_path / PATH).exists() or sha256(tmp_path / PATH) == served.sha256

    with Http() as http:
        folder(tmp_path, sources_of(emu, http)).provision([served.wanted()])

    assert sha256(tmp_path / PATH) == served.sha256
    assert bytes_sent(emu) - served.size_bytes <= UNDER_WAY + 2


@pytest.fixture
def shelf(emu: Emulator, tmp_path: Path) -> Iterator[Shelf]:
    """Yield an empty volume and somebody with a file."""
    with Http() as http:
        yield Shelf(emu, http, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("at", OVER_S3.values(), ids=OVER_S3.keys())
def test_killed_over_s3(shelf: Shelf, at: tuple[str, int, bool]):
    """The same through this machine; the parts that arrived are not sent again."""
    served = serve(shelf.emu, size=LONG)
    die(shelf.emu, shelf.root, shelf.id, served.wanted(), *at)
    file = shelf.folder / PATH
    assert not file.exists() or sha256(file) == served.sha256

    shelf.store().provision([served.wanted()])

    assert sha256(file) == served.sha256
    assert bytes_sent(shelf.emu) - served.size_bytes <= UNDER_WAY + 2
    sent = [one for one in shelf.emu.requests("PUT", "/s3/*a.bin") if one["status"] == 200]
    assert len(sent) <= 13 + 3  # those that were under way may go up again
    assert [path.name for path in (shelf.root / "staging").rglob("a.bin*")] == []
    assert shelf.files_of_uploads() <= (1 if at[0].endswith("begin_upload") and at[2] else 0)


@pytest.mark.slow
def test_a_killed_worker(emu: Emulator):
    """RunPod gives the job of a worker that died to another, which goes on where the bytes are."""
    studio = Studio(emu, "comfyform/ops")
    served = serve(emu, size=5 * PACE.piece_bytes)
    emu.fault(FILE_GLOB, method="GET", skip=4, delay_s=HANG_S)
    job = studio.submit(action="provision", models=[served.wanted()])
    until(lambda: len(emu.requests("GET", FILE_GLOB)) >= 5)
    os.kill(studio.worker_pid(), signal.SIGKILL)
    ended = studio.wait(job)

    assert ended["status"] == "COMPLETED", ended
    assert sha256(studio.volume / PATH) == served.sha256
    assert bytes_sent(emu) - served.size_bytes <= PACE.piece_bytes * PACE.connections + 2


MOODS: dict[str, dict[str, Any]] = {
    "AccessDenied now and then": {"path": "/s3/*", "status": 403, "times": 2, "skip": 3},
    "502 on a part": {"path": "/s3/*a.bin", "method": "PUT", "skip": 1, "status": 502, "times": 2},
    "a part cut": {"path": "/s3/*a.bin", "method": "PUT", "skip": 2, "cut": "before"},
    "a part that arrives and is not answered": {
        "path": "/s3/*a.bin",
        "method": "PUT",
        "skip": 2,
        "cut": "after",
    },
    "500 on complete": {"path": "/s3/*a.bin", "method": "POST", "skip": 1, "status": 500},
    "a complete that works and is not answered": {
        "path": "/s3/*a.bin",
        "method": "POST",
        "skip": 1,
        "cut": "after",
    },
    "a complete that never arrives": {"path": "/s3/*a.bin", "method": "POST", "skip": 1, "cut": "before"},
    "500 on the record": {"path": "/s3/*records*", "method": "PUT", "status": 500},
}


@pytest.mark.slow
@pytest.mark.parametrize("mood", MOODS.values(), ids=MOODS.keys())
def test_a_mood_of_the_gateway(shelf: Shelf, mood: dict[str, Any]):
    """What passes at the gateway costs the source nothing: every byte is fetched once."""
    served = serve(shelf.emu, size=LONG)
    shelf.emu.fault(**mood)

    shelf.store().provision([served.wanted()])

    assert sha256(shelf.folder / PATH) == served.sha256
    assert bytes_sent(shelf.emu) == served.size_bytes + 1
    assert shelf.files_of_uploads() == 0


@pytest.mark.slow
def test_a_token_that_is_given_twice(shelf: Shelf):
    """A listing that repeats its token does not hide the file that is there."""
    served = serve(shelf.emu, size=LONG)
    store = shelf.store(capacity_bytes=10**9)
    store.provision([served.wanted()])
    for number in range(1100):
        (shelf.folder / f"models/checkpoints/{number:04}.pt").touch()
    shelf.emu.set(s3_repeat_token=True)

    (answer,) = store.provision([served.wanted()])
    files = store.inventory().files
    shelf.emu.set(s3_repeat_token=False)

    assert (answer["status"], len(files)) == ("kept", 1101)


@pytest.mark.slow
def test_a_volume_that_fills_up(shelf: Shelf):
    """No room in the middle is one error; what went up stays for the run after it was grown."""
    served = serve(shelf.emu, size=LONG)
    shelf.emu.set(s3_volume_bytes=5 * PART)
    with pytest.raises(VolumeFull, match="Grow the volume"):
        shelf.store().provision([served.wanted()])
    shelf.emu.set(s3_volume_bytes=0)
    assert not (shelf.folder / PATH).exists()

    shelf.store().provision([served.wanted()])

    assert sha256(shelf.folder / PATH) == served.sha256
    assert bytes_sent(shelf.emu) - served.size_bytes <= UNDER_WAY + 2
