"""What to do about a file that is on a volume already, and that this tool did not bring.

It is read and compared with what is wanted before anything is fetched over it.
Equal bytes are recorded and kept; other bytes are set aside, never deleted.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from backend.contract import FileRecord, ProvisionedFile, WantedFile
from backend.errors import InvalidArgument
from backend.validation.checks import check_contained
from ops.models.other_places import belongs_at
from ops.models.record import judge
from ops.models.volume_layout import replaced_path
from ops.sources.origins import Sources


def announced(wanted: WantedFile, sources: Sources) -> WantedFile:
    """Add what a wanted file's source announces to what is wanted of it.

    Raises:
        ComfyformError: the source cannot be asked.
    """
    if wanted.get("sha256"):
        return wanted
    origin = sources.resolve(wanted["source"])
    size = wanted.get("size_bytes")
    return {
        **wanted,
        "size_bytes": origin.size_bytes if size is None else size,
        "sha256": origin.sha256,
    }


def same_bytes(
    wanted: WantedFile, held: FileRecord, hashed: Callable[[FileRecord], FileRecord]
) -> FileRecord | None:
    """Read a file that has no record, where its size allows that it is the wanted one.

    Args:
        wanted: with all that is known of its bytes.
        held: the file that is there.
        hashed: reads a file and says what its hash is.

    Returns:
        The file with its hash when it is the wanted one, else None.
    """
    if not wanted.get("sha256") or judge(wanted, held)[0] != "unverified":
        return None
    read = hashed(held)
    return read if read["sha256"] == wanted.get("sha256") else None


def check_other_place(wanted: WantedFile) -> None:
    """Check the other place on the volume that a plan names for a wanted file.

    Raises:
        InvalidArgument: it is not one of the places that pods use.
    """
    path = wanted.get("lies_at")
    if path is not None and belongs_at(check_contained(path)) is None:
        raise InvalidArgument(f"{path!r} is not a model file in one of the places that pods use.")


class _Fetched(Protocol):
    """Bytes that came: `ops.download.verified.Ready`, or what was sent over S3."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def fetched_bytes(self) -> int: ...


def fetched_file(path: str, fetched: _Fetched, set_aside: str | None) -> ProvisionedFile:
    """Return what became of a wanted file that was fetched.

    Args:
        path: from the volume root.
        fetched: what came.
        set_aside: where the file of other hands now lies that it replaced.
    """
    answer = ProvisionedFile(
        path=path,
        status="fetched",
        size_bytes=fetched.size_bytes,
        sha256=fetched.sha256,
        fetched_bytes=fetched.fetched_bytes,
    )
    if set_aside is not None:
        answer["set_aside"] = set_aside
    return answer


def place_aside(path: str) -> str:
    """Return the place for the file that lies at a path now and is about to be replaced."""
    return replaced_path(path, datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f"))
