"""Faults on the way: each ends with the right bytes or one clear error, never with wrong bytes in place."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.errors import (
    ApiError,
    ComfyformError,
    HashMismatch,
    SourceMissing,
    TransferError,
    Unavailable,
)
from backend.flow.http_driver import Http
from ops.models.volume_layout import QUARANTINE, partial_path
from ops.sources.origins import Sources
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.ops_places import (
    FILE_GLOB,
    PATH,
    PIECE,
    QUICK,
    Served,
    bytes_sent,
    folder,
    kept,
    serve,
    sources_of,
)

GLOB = "/hub/files/*"


@pytest.fixture
def sources(emu: Emulator) -> Iterator[Sources]:
    """Yield the sources of the emulator."""
    with Http() as http:
        yield sources_of(emu, http)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# The first request asks for one byte to learn the size; `skip: 1` hits the first piece.
PASSING: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "headers": {"Retry-After": "0"}},
    "429 in Hugging Face's words": {"status": 429, "headers": {"RateLimit": '"resolvers";r=0;t=0'}},
    "500": {"status": 500},
    "502 with a page": {"status": 502, "body": "<html>bad gateway</html>"},
    "503 twice": {"status": 503, "times": 2},
    "no answer": {"cut": "before"},
    "cut at the first byte": {"cut": 1},
    "cut in the middle": {"cut": PIECE // 2},
    "cut everywhere": {"cut": PIECE // 2, "times": 5},
    "a part too short": {"truncate": 1000},
    "on the first request": {"status": 500, "skip": 0},
    "the first request cut": {"cut": "before", "skip": 0},
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_a_passing_fault_is_outlived(emu: Emulator, sources: Sources, tmp_path: Path, fault: dict[str, Any]):
    """The file arrives whole, and no more than a chunk of it is asked for twice."""
    served = serve(emu)
    emu.fault(GLOB, method="GET", **({"skip": 1} | fault))

    (answer,) = folder(tmp_path, sources).provision([served.wanted()])

    assert sha256(tmp_path / PATH) == served.sha256
    assert answer["fetched_bytes"] - served.size_bytes <= PIECE


def test_damage_on_the_way_is_seen_and_fetched_again(emu: Emulator, sources: Sources, tmp_path: Path):
    """A flipped bit costs a second fetch; the bytes end up right."""
    served = serve(emu)
    emu.fault(GLOB, method="GET", skip=2, corrupt=100)

    folder(tmp_path, sources).provision([served.wanted()])

    assert sha256(tmp_path / PATH) == served.sha256


def test_lasting_damage_is_refused(emu: Emulator, sources: Sources, tmp_path: Path):
    """Bytes that stay wrong never get the file's name."""
    served = serve(emu)
    emu.fault(GLOB, method="GET", skip=1, corrupt=100, times=0)

    with pytest.raises(HashMismatch):
        folder(tmp_path, sources).provision([served.wanted()])

    assert not (tmp_path / PATH).exists()


LASTING: dict[str, tuple[dict[str, Any], type[ComfyformError]]] = {
    "500 for ever": ({"status": 500, "times": 0}, Unavailable),
    "404": ({"status": 404, "times": 0}, SourceMissing),
    "403": ({"status": 403, "times": 0}, SourceMissing),
    "never an answer": ({"cut": "before", "times": 0}, Unavailable),
    "a page instead of a file": (
        {"status": 200, "body": "<html>log in</html>", "headers": {"content-type": "text/html"}, "times": 0},
        TransferError,
    ),
}


@pytest.mark.parametrize(("fault", "error"), LASTING.values(), ids=LASTING.keys())
def test_a_lasting_fault_is_one_error(
    emu: Emulator, sources: Sources, tmp_path: Path, fault: dict[str, Any], error: type[ComfyformError]
):
    """It is the right kind of error, names the source, and leaves no file."""
    served = serve(emu)
    emu.fault(GLOB, method="GET", **fault)

    with pytest.raises(error) as caught:
        folder(tmp_path, sources).provision([served.wanted()])

    assert not (tmp_path / PATH).exists()
    assert isinstance(caught.value, ApiError) or served.source in str(caught.value)


def test_a_server_without_ranges(emu: Emulator, sources: Sources, tmp_path: Path):
    """A server that always sends everything is read from the beginning to the end."""
    served = serve(emu, ignores_range=True)

    folder(tmp_path, sources).provision([served.wanted()])

    assert sha256(tmp_path / PATH) == served.sha256


def test_everything_where_a_part_was_asked_for(emu: Emulator, sources: Sources, tmp_path: Path):
    """A server that stops honouring ranges in the middle is read anew from the beginning."""
    served = serve(emu)
    store = folder(tmp_path, sources)
    emu.fault(GLOB, method="GET", skip=3, status=500, times=0)
    with pytest.raises(Unavailable):
        store.provision([served.wanted()])
    emu.control("DELETE", "/faults")
    serve(emu, ignores_range=True)

    store.provision([served.wanted()])

    assert sha256(tmp_path / PATH) == served.sha256


def test_a_stalled_connection_is_left(emu: Emulator, sources: Sources, tmp_path: Path):
    """A server that falls silent is asked again; when it stays silent, that is the error."""
    served = serve(emu, stalls_at=3 * PIECE)

    with pytest.raises(Unavailable) as caught:
        folder(tmp_path, sources, pace=replace(QUICK, silence_s=0.5)).provision([served.wanted()])

    assert "did not answer in time" in str(caught.value)
    assert not (tmp_path / PATH).exists()


def test_a_wrong_length_is_refused(emu: Emulator, sources: Sources, tmp_path: Path):
    """A file of another size than wanted is refused before it is fetched."""
    served = serve(emu)

    with pytest.raises(TransferError, match=f"has {served.size_bytes} bytes; 17 are expected"):
        folder(tmp_path, sources).provision([served.wanted(size_bytes=17)])


def test_a_file_that_changes_between_parts(emu: Emulator, sources: Sources, tmp_path: Path):
    """Parts of two versions are never put together: with another ETag everything starts anew."""
    first = serve(emu, seed="first")
    store = folder(tmp_path, sources)
    emu.fault(GLOB, method="GET", skip=4, status=500, times=0)
    with pytest.raises(Unavailable):
        store.provision([first.wanted(sha256=None)])
    emu.control("DELETE", "/faults")
    second = serve(emu, seed="second")

    (answer,) = store.provision([second.wanted(sha256=None)])

    assert answer["sha256"] == second.sha256 == sha256(tmp_path / PATH)


def test_a_file_that_changes_while_it_is_fetched(emu: Emulator, sources: Sources, tmp_path: Path):
    """The version that was begun with is asked for, and another one is noticed: it is fetched from its start.

    No hash is wanted, so nothing but the ETag could tell parts of two versions from a file.
    """
    first = serve(emu, seed="first", size=12 * PIECE)
    later: list[Served] = []

    def replace(_: Any) -> None:
        if not later:
            later.append(serve(emu, seed="second", size=12 * PIECE))

    store = folder(tmp_path, sources)
    (answer,) = store.provision([first.wanted(sha256=None)], on_progress=replace)

    assert answer["sha256"] == later[0].sha256 == sha256(tmp_path / PATH)


def test_another_etag_for_the_same_bytes(emu: Emulator, sources: Sources, tmp_path: Path):
    """An ETag that changes in one answer only costs a new start, not the file."""
    served = serve(emu)
    emu.fault(GLOB, method="GET", skip=2, delay_s=0.001, headers={"ETag": '"another"'})

    folder(tmp_path, sources).provision([served.wanted()])

    assert sha256(tmp_path / PATH) == served.sha256


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1])
def test_sizes_at_the_edges(emu: Emulator, sources: Sources, tmp_path: Path, size: int):
    """An empty file, and files around the size of a piece."""
    served = serve(emu, content=bytes(size)) if not size else serve(emu, size=size)

    (answer,) = folder(tmp_path, sources).provision([served.wanted()])

    assert answer["size_bytes"] == size
    assert sha256(tmp_path / PATH) == served.sha256


PROGRAM = """
import json, sys
from pathlib import Path
from backend.flow.http_driver import Http
from backend.settings import Settings
from ops.sources.origins import Sources
from tests.support.ops_places import folder
root, env, wanted = sys.argv[1:]
with Http() as http:
    store = folder(Path(root), Sources.from_settings(Settings.from_env(json.loads(env)), http))
    print("begun", flush=True)
    print(store.provision([json.loads(wanted)])[0]["fetched_bytes"], flush=True)
"""


def start(emu: Emulator, root: Path, wanted: Any) -> subprocess.Popen[str]:
    """Start a process that provisions a file."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root), json.dumps(emu.env), json.dumps(wanted)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_was(emu: Emulator, tmp_path: Path):
    """After kill -9 in the middle the rest is fetched, and at most one chunk a second time."""
    served = serve(emu, size=16 * PIECE)
    emu.fault(GLOB, method="GET", skip=9, delay_s=HANG_S, times=0)
    first = start(emu, tmp_path, served.wanted())
    journal = tmp_path / f"{partial_path(PATH)}.journal"
    assert first.stdout is not None
    first.stdout.readline()
    while kept(journal) < 4 * PIECE:
        assert first.poll() is None
        os.sched_yield()
    before = kept(journal)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    emu.control("DELETE", "/faults")

    second = start(emu, tmp_path, served.wanted())
    out, err = second.communicate()

    assert err == ""
    assert sha256(tmp_path / PATH) == served.sha256
    assert int(out.split()[-1]) <= served.size_bytes - before


@pytest.mark.slow
def test_two_processes_fetch_once(emu: Emulator, tmp_path: Path):
    """Two processes that want one file: one fetches it, the other finds it."""
    served = serve(emu, size=8 * PIECE)

    both = [start(emu, tmp_path, served.wanted()) for _ in range(2)]
    fetched = [int(process.communicate()[0].split()[-1]) for process in both]

    assert sorted(fetched) == [0, served.size_bytes]
    assert sha256(tmp_path / PATH) == served.sha256


def test_a_token_stays_with_its_host(emu: Emulator, sources: Sources, tmp_path: Path):
    """A gated file is fetched with the token; the host that the bytes come from never sees it."""
    source = "hf:stabilityai/stable-video-diffusion-img2vid-xt-1-1:svd_xt_1_1.safetensors"

    folder(tmp_path, sources).provision([{"path": PATH, "source": source}])

    assert (tmp_path / PATH).stat().st_size == 4 << 20


def test_a_gated_file_without_a_token(emu: Emulator, tmp_path: Path):
    """The sentence says where to accept the licence and which variable to set."""
    source = "hf:stabilityai/stable-video-diffusion-img2vid-xt-1-1:svd_xt_1_1.safetensors"
    with Http() as http:
        store = folder(tmp_path, sources_of(emu, http, HF_TOKEN=""))

        with pytest.raises(SourceMissing) as caught:
            store.provision([{"path": PATH, "source": source}])

    assert "gated and HF_TOKEN is not set" in str(caught.value)
    assert "Accept its license at https://huggingface.co/stabilityai/" in str(caught.value)


def test_a_pin_outranks_what_the_source_announces(emu: Emulator, sources: Sources, tmp_path: Path):
    """Where pin and announcement differ the bytes decide, and they come once: they are what was announced."""
    required = {"path": PATH, "source": "hf:LeonJoe13/Sonic:Sonic/unet.pth", "sha256": "0" * 64}

    with pytest.raises(HashMismatch, match="The source announces what it sent"):
        folder(tmp_path, sources).provision([required])  # type: ignore[list-item]

    (wrong,) = (file for file in (tmp_path / QUARANTINE).rglob("*") if file.is_file())
    assert bytes_sent(emu, "*") < 2 * wrong.stat().st_size


def test_plain_http_is_not_fetched(emu: Emulator, tmp_path: Path):
    """A URL that a job brings must be public and https, unless the operator allows its host."""
    served = serve(emu)
    with Http() as http:
        store = folder(tmp_path, sources_of(emu, http, COMFYFORM_ALLOW_HOSTS=""))

        with pytest.raises(ComfyformError, match="plain http"):
            store.provision([served.wanted()])

    assert emu.requests("GET", FILE_GLOB) == []
