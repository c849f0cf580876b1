"""Records: what is known of a model file, written beside it after everything else. Pure.

A record is the last thing written, so a file that has one arrived complete.
It says what was true then; a file that was touched since is no longer known.
"""

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from backend.contract import FileRecord, VerifiedFile, WantedFile

SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")
# Network file systems round times, and a gateway may show seconds only.
TOUCHED_AFTER_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Record:
    """What was true when a file was written.

    Attributes:
        size_bytes, sha256: of its bytes.
        source: where they came from, or None when they were found lying there.
        written_at: ISO 8601, UTC.
        modified_s: the file's own modification time just after, Unix seconds; None if not read.
    """

    size_bytes: int
    sha256: str
    source: str | None = None
    written_at: str = ""
    modified_s: float | None = None

    @classmethod
    def now(cls, size_bytes: int, sha256: str, source: str | None, modified_s: float | None) -> "Record":
        """Make the record of a file that is complete now."""
        return cls(size_bytes, sha256, source, datetime.now(UTC).isoformat(timespec="seconds"), modified_s)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Record | None":
        """Read a record; None when it is damaged, which is the same as having none."""
        try:
            value: Any = json.loads(content)
        except ValueError:
            return None
        if not isinstance(value, dict):
            return None
        size, sha256, modified = value.get("size_bytes"), value.get("sha256"), value.get("modified_s")
        if not isinstance(size, int) or not isinstance(sha256, str) or not SHA256.match(sha256):
            return None
        source = value.get("source")
        return cls(
            size,
            sha256,
            source if isinstance(source, str) else None,
            str(value.get("written_at", "")),
            float(modified) if isinstance(modified, int | float) else None,
        )

    def speaks_of(self, size_bytes: int, modified_s: float | None) -> bool:
        """Tell whether a file of this size and time is still the one that was written."""
        if size_bytes != self.size_bytes:
            return False
        if modified_s is None or self.modified_s is None:
            return True
        return abs(modified_s - self.modified_s) <= TOUCHED_AFTER_S


def describe(path: str, size_bytes: int, modified_s: float | None, record: Record | None) -> FileRecord:
    """Say what is known of a file that is there, by its record."""
    if record is None or not record.speaks_of(size_bytes, modified_s):
        return FileRecord(path=path, size_bytes=size_bytes, sha256=None, how="unknown", source=None)
    return FileRecord(
        path=path, size_bytes=size_bytes, sha256=record.sha256, how="recorded", source=record.source
    )


Standing = Literal["right", "absent", "wrong_size", "wrong_hash", "unverified"]
"""How a file that is there, or not, stands to what is wanted."""


def judge(wanted: WantedFile, held: FileRecord | None) -> tuple[Standing, str]:
    """Decide whether a file is what is wanted, and why.

    Returns:
        ``unverified`` when its size is right and its hash is wanted but not known.
    """
    if held is None:
        return "absent", "file not found"
    size, sha256 = wanted.get("size_bytes"), wanted.get("sha256")
    if size is not None and held["size_bytes"] != size:
        return "wrong_size", f"size is {held['size_bytes']} bytes, expected {size}"
    if sha256 is None:
        if held["sha256"] is None and size is None:
            return "unverified", "expected size and checksum unknown, and no checksum recorded"
        return "right", "present; no checksum to verify against"
    if held["sha256"] is None:
        return "unverified", "size matches; checksum unknown"
    if held["sha256"] != sha256:
        return "wrong_hash", f"sha256 is {held['sha256'][:12]}…, expected {sha256[:12]}…"
    return "right", "size and sha256 match" if held["how"] == "hashed" else "size and recorded sha256 match"


def verdict(wanted: WantedFile, held: FileRecord | None) -> VerifiedFile:
    """Return the answer of ``verify`` for one file, which may be there under another spelling of its path."""
    standing, reason = judge(wanted, held)
    if held is not None and held["path"] != wanted["path"]:
        reason = f"{reason}, as {held['path']}"
    return VerifiedFile(
        path=wanted["path"],
        ok=standing == "right",
        reason=reason,
        size_bytes=held["size_bytes"] if held else None,
        sha256=held["sha256"] if held else None,
    )
