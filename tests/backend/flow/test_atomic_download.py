"""Bytes that become a file: a disk that takes no more says so in its own error."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from backend.errors import TransferError, VolumeFull
from backend.flow.atomic_download import land


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, VolumeFull), (errno.EDQUOT, VolumeFull), (errno.EIO, TransferError)],
)
def test_a_full_disk_and_a_full_quota_are_volume_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, error: type[TransferError]
):
    """Both mean that no room is left, and another trouble does not. Nothing is left behind."""

    def fail(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TransferError, match="cannot be written") as caught:
        land(b"bytes", tmp_path / "a.png")

    assert type(caught.value) is error
    assert list(tmp_path.iterdir()) == []
