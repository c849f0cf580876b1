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

from backend.errors import TransferError, VolumeFull
from ops.local.scan import ScannedFile

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_WAIT_S: Final = 30.0
"""How long another process may hold the database."""
_KEEP_FILES: Final = 500
_KEEP_BYTES: Final = 256 * 1024 * 1024
"""Hashed bytes and files that are worth a write; a killed process hashes no more than these again."""
_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
"""What another file is made for. A locked database or a full disk is not damage: the hashes took hours."""
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
        self._pending: list[tuple[bytes, int, int, int, str]] = []
        self._pending_bytes = 0
        try:
            self._database = self._open(path)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode not in _DAMAGED:
                kind = VolumeFull if error.sqlite_errorcode == sqlite3.SQLITE_FULL else TransferError
                raise kind(
                    f"The hash cache {path} cannot be used: {error}.",
                    path=str(path),
                    hint="Wait until no other command uses it, and see that its disk has room.",
                ) from error
            path.unlink(missing_ok=True)
            self._database = self._open(path)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False, isolation_level=None)
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
        """Return the hashes of those files that have not changed since."""
        with self._lock:
            self._write()
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
        """Remember a hash. Many small ones are written at once."""
        row = (_key(file), file.size_bytes, file.modified_ns, _signed(file.inode), sha256)
        with self._lock:
            self._pending.append(row)
            self._pending_bytes += file.size_bytes
            if len(self._pending) >= _KEEP_FILES or self._pending_bytes >= _KEEP_BYTES:
                self._write()

    def _write(self) -> None:
        """Write what is pending, in one transaction."""
        if not self._pending:
            return
        rows, self._pending, self._pending_bytes = self._pending, [], 0
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Write what is pending and close the database."""
        with self._lock:
            try:
                self._write()
            finally:
                self._database.close()


def _key(file: ScannedFile) -> bytes:
    """Return a path as the system has it; this is ``os.fsencode`` without its questions."""
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
