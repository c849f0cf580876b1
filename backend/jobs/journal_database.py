"""The journal's SQLite database: one row a job, found by key or by job id.

A program that dies at any moment leaves whole rows. A database that is damaged
is set aside under another name, with whatever rows of it can still be read
copied into a new one. Entries of earlier versions, one JSON file each, are
taken in when the database is opened.
"""

import contextlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from backend.errors import InvalidJson
from backend.validation.json_reader import as_object, read_json, read_json_file

logger = logging.getLogger(__name__)

T = TypeVar("T")

NAME: Final = "journal.sqlite3"
BUSY_S: Final = 10.0
"""How long another process may write; each write takes about a millisecond."""
MAX_ENTRY_BYTES: Final = 16 * 1024 * 1024
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY, job_id TEXT NOT NULL, open INTEGER NOT NULL, submitted_at TEXT NOT NULL,
    entry TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_id ON jobs (job_id) WHERE job_id != '';
CREATE INDEX IF NOT EXISTS jobs_open ON jobs (open, key);
CREATE INDEX IF NOT EXISTS jobs_by_age ON jobs (open, submitted_at);
"""

Row = tuple[str, str, bool, str, Mapping[str, Any]]
"""Key, job id, whether its result may still come, time of submission, and the whole entry as JSON."""


class JournalDatabase:
    """The rows. Safe to share between threads and processes; after a fork it opens a connection of its own.

    Args:
        folder: where the database is; made on the first write.
        row_of: turns an entry as JSON into its row, for files of earlier versions.

    Every method raises ``sqlite3.Error`` or ``OSError`` where the disk does not let it work.
    """

    def __init__(self, folder: Path, row_of: Callable[[Mapping[str, Any]], Row]) -> None:
        self.path = folder / NAME
        self._row_of = row_of
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows, all or none; a row of the same key is replaced."""
        values = [(key, job_id, open_, at, json.dumps(entry)) for key, job_id, open_, at, entry in rows]
        self._run(lambda database: _put(database, values))

    def get(self, name: str) -> Mapping[str, Any] | None:
        """The entry of a key or a job id; None if it does not exist or is damaged."""

        def query(database: sqlite3.Connection) -> list[tuple[str]]:
            by_key = database.execute("SELECT entry FROM jobs WHERE key = ?", (name,)).fetchall()
            return (
                by_key
                or database.execute(
                    "SELECT entry FROM jobs WHERE job_id = ? AND job_id != '' ORDER BY key DESC LIMIT 1",
                    (name,),
                ).fetchall()
            )

        return next(iter(self._entries(query)), None)

    def count(self) -> int:
        """The number of entries."""
        if not self.path.parent.is_dir():
            return 0
        number: int = self._run(lambda database: database.execute("SELECT count(*) FROM jobs").fetchone()[0])
        return number

    def newest(self, limit: int | None, skip: int) -> list[Mapping[str, Any]]:
        """The newest entries first, without the first ``skip``; a damaged one is left out, with a warning."""
        statement = "SELECT entry FROM jobs ORDER BY key DESC LIMIT ? OFFSET ?"
        window = (-1 if limit is None else limit, skip)
        return list(self._entries(lambda database: database.execute(statement, window).fetchall()))

    def open_before(self, submitted_at: str, limit: int) -> list[Mapping[str, Any]]:
        """Open entries that were submitted before a time, oldest first."""
        statement = "SELECT entry FROM jobs WHERE open = 1 AND submitted_at < ? ORDER BY submitted_at LIMIT ?"
        return list(
            self._entries(lambda database: database.execute(statement, (submitted_at, limit)).fetchall())
        )

    def prune(self, keep: int) -> None:
        """Delete closed entries that are older than the newest ``keep`` of all."""
        self._run(
            lambda database: database.execute(
                "DELETE FROM jobs WHERE open = 0 "
                "AND key < (SELECT key FROM jobs ORDER BY key DESC LIMIT 1 OFFSET ?)",
                (keep - 1,),
            )
        )

    def _entries(
        self, query: Callable[[sqlite3.Connection], list[tuple[str]]]
    ) -> Iterator[Mapping[str, Any]]:
        if not self.path.parent.is_dir():
            return
        for (text,) in self._run(query):
            try:
                value = read_json(text, what="A journal entry", max_bytes=MAX_ENTRY_BYTES)
            except InvalidJson as error:
                logger.warning("%s: an entry is left out. %s", self.path, error)
            else:
                yield as_object(value)

    def _run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation; on a damaged database, once more on a new one."""
        with self._lock:
            try:
                return operation(self._opened())
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                    raise
                self._set_aside(error)
                return operation(self._opened())

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid() or not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Only to create it: closing a descriptor of an open database would release the locks of all
            # connections of this process (sqlite.org/howtocorrupt.html, 2.2).
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            self._connection, self._process = _connected(self.path), os.getpid()
            self._take_in(self._connection)
        return self._connection

    def _take_in(self, database: sqlite3.Connection) -> None:
        """Move entries of earlier versions, one JSON file each, into the database."""
        files = list(self.path.parent.glob("*.json"))
        rows = []
        for path in files:
            try:
                key, job_id, open_, at, entry = self._row_of(
                    as_object(read_json_file(path, max_bytes=MAX_ENTRY_BYTES))
                )
                rows.append((key, job_id, open_, at, json.dumps(entry)))
            except FileNotFoundError:  # another process has just taken it in
                continue
            except (OSError, ValueError) as error:
                logger.warning("The journal entry %s cannot be read and is set aside: %s", path, error)
                with contextlib.suppress(OSError):
                    path.replace(path.with_suffix(".json.damaged"))
        if rows:
            _put(database, rows, verb="INSERT OR IGNORE")
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Return a damaged database another name, and copy the rows that can be read into a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        aside = self.path.with_name(f"{NAME}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
        rows = _readable(aside)
        _put(self._opened(), rows)
        logger.warning(
            "The journal %s was damaged (%s). It is kept as %s; %d entries of it could be read.",
            self.path, error, aside, len(rows),
        )  # fmt: skip


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    # With a write-ahead log a write needs no flush of the disk; a file system without one keeps the default.
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(_SCHEMA)
    return database


def _put(
    database: sqlite3.Connection, values: Iterable[tuple[Any, ...]], *, verb: str = "INSERT OR REPLACE"
) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        database.executemany(f"{verb} INTO jobs VALUES (?, ?, ?, ?, ?)", values)  # one of two verbs
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _readable(path: Path) -> list[tuple[Any, ...]]:
    """The rows of a damaged database that can still be read, up to the first damage."""
    rows: list[tuple[Any, ...]] = []
    with contextlib.suppress(sqlite3.Error):
        database = sqlite3.connect(path)
        try:
            database.text_factory = lambda content: content.decode("utf-8", "replace")
            found = database.execute("SELECT key, job_id, open, submitted_at, entry FROM jobs")
            rows.extend(row for row in found if all(isinstance(row[part], str) for part in (0, 1, 3, 4)))
        finally:
            database.close()
    return rows
