"""What goes wrong on the way of a model file, over both transports: the right bytes, or one clear error.

Each row is carried out by ``models.sync``'s own stores: through the real worker
on the real ``runpod`` SDK, all rows at once on one endpoint, and over S3. No
file ever has its name with wrong bytes, and no fault that passes costs more
than one request's bytes a second time.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from backend.contract import ProvisionedFile, WantedFile
from backend.errors import ComfyformError
from backend.flow.http_driver import Http
from backend.runpod.job_api import JobPlane
from backend.settings import Secret
from ops.stores.model_store import ModelStore
from ops.stores.worker_jobs import JobStore
from ops.threads.retry import PACE
from tests.support.emulation import Emulator, running_emulator
from tests.support.ops_places import QUICK, Served, bytes_sent, serve
from tests.support.ops_shelf import PART, Shelf
from tests.support.worker_endpoint import Studio

ETAG = {"ETag": '"another"'}
HUGE = {"Content-Range": "bytes 0-0/100000000000000", **ETAG}
NO_HASH = {"sha256": None, "size_bytes": None}


@dataclass(frozen=True)
class Row:
    """What goes wrong with one file, and how that must end.

    Attributes:
        fault: on the requests for the file; the first of them learns its size, so one is skipped.
        served: how the file's server is odd.
        wanted: what is wanted otherwise than the file is.
        says: what the one error says; "" where the file must arrive.
        anew: the file has to come again from its beginning, so it does.
    """

    fault: dict[str, Any] = field(default_factory=dict)
    served: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)
    says: str = ""
    anew: bool = False


ROWS: dict[str, Row] = {
    "429": Row({"status": 429, "headers": {"Retry-After": "0"}}),
    "429 in Hugging Face's words": Row({"status": 429, "headers": {"RateLimit": '"resolvers";r=0;t=0'}}),
    "500": Row({"status": 500}),
    "502 with a page, twice": Row({"status": 502, "body": "<html>bad gateway</html>", "times": 2}),
    "500 on the first request": Row({"status": 500, "skip": 0}),
    "500 for ever": Row({"status": 500, "times": 0}, says="500"),
    "401": Row({"status": 401, "times": 0}, says="401"),
    "403": Row({"status": 403, "times": 0}, says="403"),
    "404": Row({"status": 404, "times": 0}, says="404|not there|no file"),
    "no answer": Row({"cut": "before"}),
    "cut at the first byte": Row({"cut": 1}),
    "cut in the middle": Row({"cut": PART // 2, "skip": 2}),
    "cut three times": Row({"cut": PART // 3, "times": 3}),
    "a stall": Row({"stall": 1000}),
    "a part too short": Row({"truncate": 1000}),
    "another length than wanted": Row(wanted={"size_bytes": 17}, says="17 are expected"),
    "another hash than wanted": Row(wanted={"sha256": "0" * 64}, says="instead of 0000", anew=True),
    "a flipped bit": Row({"corrupt": 100, "skip": 2}, anew=True),
    "a flipped bit for ever": Row({"corrupt": 100, "times": 0}, says="sha256", anew=True),
    # Not on one of the first pieces, which are asked for at once: from byte 0 "everything" is another file.
    "everything where a part was asked for": Row({"status": 200, "body": "everything", "skip": 4}),
    "never a part": Row(served={"ignores_range": True}, anew=True),
    "another part than was asked for": Row(
        {"status": 206, "body": "x", "headers": {"Content-Range": "bytes 7-7/9"}, "skip": 2}
    ),
    "another ETag between parts": Row({"headers": ETAG, "delay_s": 0.001, "skip": 2}, anew=True),
    "a page instead of a file": Row(
        {"status": 200, "body": "<html>log in</html>", "skip": 0, "times": 0},
        wanted=NO_HASH,
        says="it is a web page",
    ),
    "more than fits": Row(
        {"status": 206, "body": "x", "headers": HUGE, "skip": 0}, wanted=NO_HASH, says="are free|S3 takes"
    ),
}


@dataclass(frozen=True)
class Bench:
    """A file of its own for each row, and what each row did to its file.

    Attributes:
        request_bytes: what one request asks for.
        ends: row → the answer, or the error.
        heard: job → how it stood, one after the other, as its store told.
    """

    emu: Emulator
    volume: Path
    request_bytes: int
    files: dict[str, Served]
    ends: dict[str, ProvisionedFile | ComfyformError]
    heard: dict[str, list[str]] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Hold a row against what it promises."""
        row, served, end = ROWS[name], self.files[name], self.ends[name]
        file = self.volume / place(name)
        if row.says:
            assert isinstance(end, ComfyformError), end
            assert re.search(row.says, str(end)), str(end)
            assert "Traceback" not in str(end)
            assert not file.exists()
        else:
            assert not isinstance(end, ComfyformError), str(end)
            assert end["sha256"] == served.sha256
            assert hashlib.sha256(file.read_bytes()).hexdigest() == served.sha256
        if not row.anew and not row.says:
            sent = bytes_sent(self.emu, f"/hub/files/{slug(name)}")
            assert sent - served.size_bytes <= self.request_bytes
        assert not [p for p in self.volume.rglob(f"*{slug(name)}*") if is_left_over(p)]


def slug(name: str) -> str:
    """Return a row's file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".bin"


def place(name: str) -> str:
    """Return the place of a row's file on the volume."""
    return f"models/checkpoints/{slug(name)}"


def is_left_over(path: Path) -> bool:
    """Tell whether a file should not be there when all is over: bytes on their way of an upload."""
    return ".s3compat_uploads" in path.parts


def put_rows(emu: Emulator, size: int) -> dict[str, Served]:
    """Serve a file for each row, and set its fault."""
    files = {}
    for name, row in ROWS.items():
        files[name] = serve(emu, name=slug(name), size=size, **row.served)
        if row.fault:
            emu.fault(f"/hub/files/{slug(name)}", method="GET", **({"skip": 1} | row.fault))
    return files


def attempt(store: ModelStore, wanted: WantedFile) -> ProvisionedFile | ComfyformError:
    """Provision one file and return how it ended."""
    try:
        return store.provision([wanted])[0]
    except ComfyformError as error:
        return error


@pytest.fixture(scope="module")
def over_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Carry out all rows at once, through one worker of one endpoint."""
    with running_emulator(tmp_path_factory.mktemp("jobs")) as emu, Http() as http:
        studio = Studio(emu, "comfyform/ops")
        plane = JobPlane(emu.url("jobs"), Secret(emu.env["RUNPOD_API_KEY"]))
        heard: dict[str, list[str]] = defaultdict(list)
        store = JobStore(
            http, plane, studio.endpoint_id, on_state=lambda job: heard[job["job_id"]].append(job["state"])
        )
        files = put_rows(emu, 3 * PACE.piece_bytes + 77)
        with ThreadPoolExecutor(len(ROWS)) as pool:
            wishes = [files[name].wanted(place(name), **row.wanted) for name, row in ROWS.items()]
            ends = dict(zip(ROWS, pool.map(lambda wanted: attempt(store, wanted), wishes), strict=True))
        assert emu.unhit_faults() == []
        yield Bench(emu, studio.volume, PACE.piece_bytes, files, ends, heard)


@pytest.fixture(scope="module")
def over_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Carry out all rows at once, in one store."""
    with running_emulator(tmp_path_factory.mktemp("s3"), images={}) as emu, Http() as http:
        shelf = Shelf(emu, http, tmp_path_factory.mktemp("machine"))
        store = shelf.store(capacity_bytes=10**9, pace=replace(QUICK, silence_s=5.0))
        files = put_rows(emu, 9 * PART + 77)
        with ThreadPoolExecutor(4) as pool:
            wishes = [files[name].wanted(place(name), **row.wanted) for name, row in ROWS.items()]
            ends = dict(zip(ROWS, pool.map(lambda wanted: attempt(store, wanted), wishes), strict=True))
        assert emu.unhit_faults() == []
        yield Bench(emu, shelf.folder, QUICK.piece_bytes, files, ends)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_over_jobs(over_jobs: Bench, name: str):
    """Through the worker: the right bytes, or one error that says what is wrong."""
    over_jobs.check(name)


@pytest.mark.slow
def test_every_job_is_heard_of(over_jobs: Bench):
    """Up to its end, whatever that end is, so that nobody is told of a wait that is over."""
    assert len(over_jobs.heard) == len(ROWS)
    assert "IN_QUEUE" in {states[0] for states in over_jobs.heard.values()}
    assert {states[-1] for states in over_jobs.heard.values()} == {"ENDED"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_over_s3(over_s3: Bench, name: str):
    """Through this machine and the gateway: the same, and nothing half sent is left."""
    over_s3.check(name)
