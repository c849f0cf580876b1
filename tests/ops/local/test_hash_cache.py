"""The hash cache: only a damaged database is made again, for its hashes took hours."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from backend.errors import TransferError
from ops.local.hash_cache import HashCache


def test_a_locked_database_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another command that uses it is no damage."""
    path = tmp_path / "c.sqlite"
    HashCache(path).close()
    monkeypatch.setattr("ops.local.hash_cache._WAIT_S", 0.05)
    inode = path.stat().st_ino
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(TransferError, match="cannot be used: database is locked"):
        HashCache(path)
    other.close()

    assert path.stat().st_ino == inode


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be read as one" * 50, b"SQLite format 3\0" * 99]
)
def test_a_damaged_database_is_made_again(tmp_path: Path, content: bytes):
    """The cache may be deleted at any time."""
    path = tmp_path / "c.sqlite"
    path.write_bytes(content)

    cache = HashCache(path)

    assert cache.known([]) == {}
    cache.close()
