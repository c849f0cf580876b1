"""A file on its way through this machine to a volume: in parts, hashed, resumable, never all of it here."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.drivers import Http
from backend.errors import ComfyformError, HashMismatch, TransferError, Unavailable
from ops import volume
from ops.claims import Claims
from ops.hashing import RunningHash, can_run
from ops.layout import claims_folder, partial_path
from tests.emulation import Emulator, until
from tests.ops_places import FILE_GLOB, PATH, PIECE, QUICK, bytes_sent, folder, serve, sources_of
from tests.ops_shelf import LOCAL, PART, SIZE, Shelf

LONG = 20 * PART + 5
GOES_UP = "/s3/*a.bin"
UNDER_WAY = QUICK.piece_bytes * QUICK.connections
"""What a cut may cost: the bytes that are on their way at once."""


@pytest.fixture
def shelf(emu: Emulator, tmp_path: Path) -> Iterator[Shelf]:
    """Give an empty volume and somebody with a file."""
    with Http() as http:
        yield Shelf(emu, http, tmp_path)


def arrived(shelf: Shelf, path: str = PATH) -> str:
    """Hash the file that is on the volume."""
    return hashlib.sha256((shelf.folder / path).read_bytes()).hexdigest()


def uploads(shelf: Shelf) -> list[Path]:
    """List the uploads that are under way on the volume."""
    return list((shelf.folder / ".s3compat_uploads").glob("*/upload.json"))


def test_a_file_passes_through(shelf: Shelf):
    """It arrives with its record, came once, and nothing of it stays on this machine."""
    served = serve(shelf.emu, size=LONG)

    (answer,) = shelf.store().provision([served.wanted()])

    assert (answer["status"], answer["sha256"]) == ("fetched", served.sha256)
    assert answer["fetched_bytes"] == served.size_bytes
    assert bytes_sent(shelf.emu) == served.size_bytes + 1  # one byte to learn the size
    assert arrived(shelf) == served.sha256
    assert shelf.files() == [PATH]
    assert [path.name for path in (shelf.root / "staging").rglob("*a.bin*")] == []
    assert shelf.store().provision([served.wanted()])[0]["status"] == "kept"


def test_at_most_a_ring_of_it_lies_here(shelf: Shelf):
    """However large the file, this machine holds the parts under way and no more."""
    served = serve(shelf.emu, size=LONG)
    ring = shelf.root / "staging" / partial_path(PATH)
    seen = [0]

    def look(_: Any) -> None:
        seen[0] = max(seen[0], ring.stat().st_size if ring.exists() else 0)

    shelf.store().provision([served.wanted()], on_progress=look)

    assert 0 < seen[0] <= 7 * PART < served.size_bytes


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 7 * PART, 8 * PART + 64])
def test_sizes_at_the_edges(shelf: Shelf, size: int):
    """An empty file, and files around the size of a part and of the ring."""
    served = serve(shelf.emu, content=bytes(size)) if not size else serve(shelf.emu, size=size)

    (answer,) = shelf.store().provision([served.wanted()])

    assert answer["size_bytes"] == size
    assert arrived(shelf) == served.sha256


@pytest.mark.parametrize("parts", [0, 1, 5, 13, 20])
def test_a_run_that_failed_is_gone_on_with(shelf: Shelf, parts: int):
    """Parts that arrived are not sent again, and what is under way at most comes again."""
    served = serve(shelf.emu, size=LONG)
    shelf.emu.fault(GOES_UP, method="PUT", skip=parts, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([served.wanted()])
    shelf.emu.control("DELETE", "/faults")
    before = len(shelf.emu.requests("PUT", GOES_UP))

    shelf.store().provision([served.wanted()])

    assert arrived(shelf) == served.sha256
    assert bytes_sent(shelf.emu) - served.size_bytes <= UNDER_WAY
    assert len(shelf.emu.requests("PUT", GOES_UP)) - before <= 21 - parts
    assert uploads(shelf) == []
    assert list((shelf.folder / claims_folder(PATH)).iterdir()) == []


def test_a_source_that_failed_is_gone_on_with(shelf: Shelf):
    """The same when it is the source that gives up in the middle."""
    served = serve(shelf.emu, size=LONG)
    shelf.emu.fault(FILE_GLOB, method="GET", skip=12, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([served.wanted(sha256=None)])
    shelf.emu.control("DELETE", "/faults")

    (answer,) = shelf.store().provision([served.wanted(sha256=None)])

    assert answer["sha256"] == served.sha256 == arrived(shelf)
    assert bytes_sent(shelf.emu) - served.size_bytes <= UNDER_WAY


@pytest.mark.parametrize("lost", ["the upload", "the ring", "the mark", "this machine"])
def test_what_is_lost_is_begun_anew(shelf: Shelf, lost: str):
    """Where a half of the state is gone, nothing is guessed: the file comes again, and is right."""
    served = serve(shelf.emu, size=LONG)
    shelf.emu.fault(GOES_UP, method="PUT", skip=9, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([served.wanted()])
    shelf.emu.control("DELETE", "/faults")
    ring = shelf.root / "staging" / partial_path(PATH)
    match lost:
        case "the upload":
            shutil.rmtree(uploads(shelf)[0].parent)
        case "the ring":
            ring.unlink()
        case "the mark":
            ring.with_name("a.bin.mark").unlink()
        case "this machine":
            shutil.rmtree(shelf.root / "staging")

    shelf.store().provision([served.wanted()])

    assert arrived(shelf) == served.sha256
    assert uploads(shelf) == []


def test_what_a_worker_fetched_meanwhile_is_not_sent(shelf: Shelf):
    """When the file got there another way, the next look drops what we had sent, and keep, of it."""
    served = serve(shelf.emu, size=LONG)
    shelf.emu.fault(GOES_UP, method="PUT", skip=9, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([served.wanted()])
    shelf.emu.control("DELETE", "/faults")
    before = (len(uploads(shelf)), len(list((shelf.root / "staging").rglob("a.bin*"))))
    folder(shelf.folder, sources_of(shelf.emu, shelf.http)).provision([served.wanted()])

    found = shelf.store().inventory().files

    assert before == (1, 3)
    assert found[PATH]["sha256"] == served.sha256
    assert uploads(shelf) == list((shelf.root / "staging").rglob("a.bin*")) == []
    assert list((shelf.folder / claims_folder(PATH)).iterdir()) == []


def test_another_version_is_begun_anew(shelf: Shelf):
    """Parts of two versions are never put together."""
    first = serve(shelf.emu, seed="first", size=LONG)
    shelf.emu.fault(GOES_UP, method="PUT", skip=9, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([first.wanted(sha256=None)])
    shelf.emu.control("DELETE", "/faults")
    second = serve(shelf.emu, seed="second", size=LONG)

    (answer,) = shelf.store().provision([second.wanted(sha256=None)])

    assert answer["sha256"] == second.sha256 == arrived(shelf)
    assert uploads(shelf) == []


def test_lasting_damage_never_gets_the_name(shelf: Shelf):
    """Bytes that are wrong twice are dropped before they are put together; what was there stays."""
    served = serve(shelf.emu, size=LONG)
    (shelf.folder / PATH).parent.mkdir(parents=True)
    (shelf.folder / PATH).write_bytes(b"older")
    shelf.emu.fault(FILE_GLOB, method="GET", skip=1, corrupt=100, times=0)

    with pytest.raises(HashMismatch, match="dropped before they got the file's name"):
        shelf.store().provision([served.wanted()])

    assert (shelf.folder / PATH).read_bytes() == b"older"
    assert uploads(shelf) == []


def test_a_source_without_ranges_is_staged(shelf: Shelf):
    """A server that cannot send parts could not be gone on with, so the file is fetched first, then sent."""
    served = serve(shelf.emu, size=LONG, ignores_range=True)
    shelf.emu.fault(GOES_UP, method="PUT", skip=4, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([served.wanted()])
    shelf.emu.control("DELETE", "/faults")

    (answer,) = shelf.store().provision([served.wanted()])

    assert answer["fetched_bytes"] == 0
    assert arrived(shelf) == served.sha256
    assert shelf.files() == [PATH]


def test_a_python_without_openssl_stages_too(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    """Where a hash cannot be put aside, the bytes are."""
    monkeypatch.setattr(volume, "can_run", lambda: False)
    served = serve(shelf.emu, size=LONG)

    shelf.store().provision([served.wanted()])

    assert arrived(shelf) == served.sha256


def test_of_two_machines_one_sends(shelf: Shelf):
    """The second sees the first at work, waits, and finds the file."""
    served = serve(shelf.emu, size=LONG)
    shelf.emu.fault(FILE_GLOB, method="GET", skip=9, delay_s=1)
    answers: dict[str, Any] = {}
    shown: set[str] = set()

    def sync(machine: str) -> None:
        store = shelf.store(machine, look_s=0.02)
        answers[machine] = store.provision([served.wanted()], on_progress=lambda p: shown.add(p["path"]))[0]

    one, other = (threading.Thread(target=sync, args=(name,)) for name in ("one", "other"))
    one.start()
    # Not at the same instant, when both may send: see `ops.claims`.
    until(lambda: list((shelf.folder / claims_folder(PATH)).glob("*.json")))
    other.start()
    one.join()
    other.join()

    assert {machine: answer["status"] for machine, answer in answers.items()} == {
        "one": "fetched",
        "other": "kept",
    }
    assert arrived(shelf) == served.sha256
    assert bytes_sent(shelf.emu) <= served.size_bytes + 2
    assert any("(sent by " in path for path in shown)
    assert uploads(shelf) == []


def test_a_machine_that_never_ends_is_said(shelf: Shelf):
    """Who waits is not held up for ever: the error names the file, the volume and the other machine."""
    served = serve(shelf.emu, size=LONG)
    other = Claims(shelf.bucket(), shelf.root / "other")
    other.take(PATH, of="something", part_bytes=PART, adopt=False)

    with pytest.raises(TransferError, match=f"{PATH} is still being sent to volume {shelf.id} by "):
        shelf.store(look_s=QUICK.deadline_s, pace=replace(QUICK, deadline_s=0.0)).provision([served.wanted()])


@pytest.mark.parametrize("end", ["resting", "stale"])
def test_a_machine_that_gave_up_is_taken_over(shelf: Shelf, end: str):
    """After its error, or a long silence, another machine goes on with its parts of the same local file."""
    shelf.emu.fault("/s3/*mine.safetensors", method="PUT", skip=3, status=500, times=0)
    with pytest.raises(ComfyformError):
        shelf.store("one").provision([shelf.local])
    shelf.emu.control("DELETE", "/faults")
    if end == "stale":
        (claim,) = (shelf.folder / claims_folder(LOCAL)).iterdir()
        claim.write_text(claim.read_text().replace('"resting": true', '"resting": false'))
    store = shelf.store("other", stale_s=-5.0 if end == "stale" else 900.0)

    (answer,) = store.provision([shelf.local])

    assert answer["fetched_bytes"] <= SIZE - 2 * PART
    assert arrived(shelf, LOCAL) == shelf.sha256
    assert uploads(shelf) == []
    assert list((shelf.folder / claims_folder(LOCAL)).iterdir()) == []


def test_this_python_can_put_a_hash_aside():
    """So that the tests above mean what they say."""
    assert can_run()


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(0, 7))
def test_a_hash_goes_on_where_it_was(pieces: list[bytes], cut: int):
    """Over any bytes, put aside between any blocks, it is the hash that ``hashlib`` gives."""
    blocks = [piece[: len(piece) // 64 * 64] for piece in pieces[:cut]]
    rest = pieces[cut:]
    first = RunningHash()
    for block in blocks:
        first.update(memoryview(bytearray(block)))
    state = first.state()

    second = RunningHash(state)
    for piece in rest:
        second.update(piece)

    assert first.hexdigest() == hashlib.sha256(b"".join(blocks)).hexdigest()
    assert second.hexdigest() == hashlib.sha256(b"".join([*blocks, *rest])).hexdigest()


def test_a_state_within_a_block_is_refused():
    """There is none to give, so it is not given."""
    digest = RunningHash()
    digest.update(b"x")

    with pytest.raises(ValueError, match="between blocks"):
        digest.state()


def test_a_length_beyond_a_word_is_kept():
    """The length in bits of a file over 512 MiB takes two words."""
    state = f"{(1 << 40) * 8}:" + "0" * 64

    assert RunningHash(state).state() == state


assert PIECE == PART
