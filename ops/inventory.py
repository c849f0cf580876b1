"""What model files a place holds: one value for a folder, a volume over S3 and one through its worker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from backend.contract import FileRecord
from backend.errors import TransferError


@dataclass(frozen=True, slots=True)
class Inventory:
    """Model files by path, with what is known about each.

    Attributes:
        files: path from the volume root → record, sorted by path. ``how`` says where a ``sha256``
            comes from: ``recorded`` when the file was written, ``hashed`` just now, ``unknown``.
        total_bytes, free_bytes: size of the place and room left in it, or None where nobody can say.
        warnings: what could not be read, one sentence each.
    """

    files: Mapping[str, FileRecord] = field(default_factory=dict)
    total_bytes: int | None = None
    free_bytes: int | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        records: Iterable[FileRecord],
        *,
        total_bytes: int | None = None,
        free_bytes: int | None = None,
        warnings: Iterable[str] = (),
    ) -> "Inventory":
        """Make an inventory from records in any order."""
        ordered = sorted(records, key=lambda record: record["path"])
        return cls({record["path"]: record for record in ordered}, total_bytes, free_bytes, tuple(warnings))

    @property
    def used_bytes(self) -> int:
        """Bytes of all model files together."""
        return sum(record["size_bytes"] for record in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """Give the JSON that the worker's ``inventory`` action answers with (see ``backend.contract``)."""
        return {
            "inventory": list(self.files.values()),
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Inventory":
        """Read what `to_json` gives.

        Raises:
            TransferError: it is something else. A broken listing must never look like an empty volume.
        """
        entries = value.get("inventory")
        if not isinstance(entries, list) or not all(_is_record(entry) for entry in entries):
            raise TransferError(
                "The worker's inventory is not in the form that this version understands.",
                hint="Deploy the worker image that belongs to this version of comfyform.",
            )
        return cls.of(
            cast("list[FileRecord]", entries),  # every entry was just checked
            total_bytes=value.get("total_bytes"),
            free_bytes=value.get("free_bytes"),
            warnings=value.get("warnings") or (),
        )


def _is_record(entry: object) -> bool:
    """Tell whether a parsed JSON value has what a record must have."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("size_bytes"), int)
        and isinstance(entry.get("sha256"), str | None)
        and entry.get("how") in {"recorded", "hashed", "unknown"}
    )
