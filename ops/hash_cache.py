"""Hashes of this machine's model files, remembered between runs in SQLite.

A file counts as unchanged while its path, size, modification time and inode
are the same. The cache may be deleted at any time.
"""

import contextlib
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ops.scan import ScannedFile

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS hashes (
    path BLOB PRIMARY KEY, size INTEGER, modified_ns INTEGER, inode INTEGER, sha256 TEXT
) WITHOUT ROWID
"""


class HashCache:
    """The remembered hashes. Safe to share between threads, and between processes.

    Args:
        path: the database file; it is made when it is not there, and again when it is damaged.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._database = self._open(path)
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)
            self._database = self._open(path)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            # A lost entry costs one hashing, so the disk need not be waited for.
            database.execute("PRAGMA synchronous=OFF")
            database.execute(_SCHEMA)
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def known(self, files: Sequence[ScannedFile]) -> dict[str, str]:
        """Give the hashes of those files that have not changed since."""
        with self._lock:
            # All at once: tens of thousands of questions take longer.
            rows = self._database.execute("SELECT path, size, modified_ns, inode, sha256 FROM hashes")
            kept = {
                (path, size, modified_ns, inode): sha256 for path, size, modified_ns, inode, sha256 in rows
            }
        found: dict[str, str] = {}
        for file in files:
            sha256 = kept.get((_key(file), file.size_bytes, file.modified_ns, _signed(file.inode)))
            if sha256 is not None:
                found[file.location] = sha256
        return found

    def keep(self, file: ScannedFile, sha256: str) -> None:
        """Remember a hash."""
        row = (
            _key(file),
            file.size_bytes,
            file.modified_ns,
            _signed(file.inode),
            sha256,
        )
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()


def _key(file: ScannedFile) -> bytes:
    """Give a path as the system has it; this is ``os.fsencode`` without its questions."""
    return file.location.encode(_ENCODING, _ERRORS)


def _signed(number: int) -> int:
    """Fit an unsigned 64-bit inode into SQLite's integer."""
    return number - (1 << 64) if number >= 1 << 63 else number


@contextlib.contextmanager
def hash_cache(path: Path) -> Iterator[HashCache]:
    """Open the cache within a ``with``."""
    cache = HashCache(path)
    try:
        yield cache
    finally:
        cache.close()
