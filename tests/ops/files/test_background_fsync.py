"""The flush beside a transfer: it is done early, and a failure of it is never lost."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.errors import VolumeFull
from ops.files.atomic import translated
from ops.files.background_fsync import FLUSH_BYTES, Flusher
from tests.support.deadlines import HANG_S


def test_written_bytes_are_flushed_before_the_end():
    """Enough bytes are flushed at once, without anybody waiting for it; fewer wait for the end."""
    flushed = threading.Event()
    flusher = Flusher(7, to_disk=lambda _: flushed.set())

    flusher.wrote(0, FLUSH_BYTES - 1)
    early = flushed.is_set()
    flusher.wrote(0, 1)

    assert not early
    assert flushed.wait(HANG_S)
    flusher.stop()


def test_the_end_flushes_what_is_left(tmp_path: Path):
    """`finish` flushes the descriptor that it was given, after the thread has ended."""
    calls: list[int] = []
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    flusher = Flusher(descriptor, to_disk=calls.append)

    flusher.wrote(0, 1)
    flusher.finish()
    os.close(descriptor)

    assert calls == [descriptor]


def test_a_failed_flush_is_told_again_and_again():
    """A system tells of a failure once; whoever writes or ends afterwards hears of it all the same."""
    failed = threading.Event()

    def refuse(_: int) -> None:
        failed.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    flusher = Flusher(7, to_disk=refuse)
    flusher.wrote(0, FLUSH_BYTES)
    assert failed.wait(HANG_S)
    flusher.stop()

    asks: tuple[Callable[[], None], ...] = (lambda: flusher.wrote(0, 1), flusher.finish, flusher.finish)
    for ask in asks:
        with pytest.raises(VolumeFull), translated("models/x.safetensors"):
            ask()


def test_a_failed_flush_names_what_it_may_have_lost():
    """Only what was written since the last flush that succeeded, whoever wrote it."""
    failing = False

    def flush(_: int) -> None:
        if failing:
            raise OSError(errno.EIO, "Input/output error")

    flusher = Flusher(7, [0], to_disk=flush)
    flusher.wrote(1, 1)
    flusher.flush()
    flusher.wrote(2, 1)
    failing = True
    before = flusher.lost
    with pytest.raises(OSError, match="Input/output"):
        flusher.finish()
    resumed = Flusher(7, [0, 1], to_disk=flush)
    with pytest.raises(OSError, match="Input/output"):
        resumed.flush()
    resumed.stop()

    assert (set(before), set(flusher.lost), set(resumed.lost)) == (set(), {2}, {0, 1})


def test_stopping_waits_for_the_flush_that_runs():
    """The descriptor may be closed after `stop`: no flush is at work any more."""
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def slow(descriptor: int) -> None:
        begun.set()
        go_on.wait(HANG_S)
        done.append(descriptor)

    flusher = Flusher(7, to_disk=slow)
    flusher.wrote(0, FLUSH_BYTES)
    assert begun.wait(HANG_S)
    threading.Timer(0.05, go_on.set).start()
    flusher.stop()

    assert done == [7]
