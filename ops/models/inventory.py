"""What model files a place holds: one value for a folder, a volume over S3 and one through its worker."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from backend.contract import FileRecord
from backend.errors import TransferError
from ops.models.volume_layout import blob_repository


@dataclass(frozen=True, slots=True)
class Inventory:
    """Model files by path, with what is known about each.

    Attributes:
        files: path from the volume root → record, sorted by path. ``how`` says where a ``sha256``
            comes from: ``recorded`` when the file was written, ``hashed`` just now, ``unknown``.
        total_bytes, free_bytes: size of the place and room left in it, or None if unknown.
        warnings: what could not be read, one sentence each.
        elsewhere: model files in the other usual places of a pod, by path; see `ops.models.other_places`.
    """

    files: Mapping[str, FileRecord] = field(default_factory=dict)
    total_bytes: int | None = None
    free_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    elsewhere: Mapping[str, FileRecord] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        records: Iterable[FileRecord],
        *,
        total_bytes: int | None = None,
        free_bytes: int | None = None,
        warnings: Iterable[str] = (),
        elsewhere: Iterable[FileRecord] = (),
    ) -> "Inventory":
        """Make an inventory from records in any order."""
        return cls(_by_path(records), total_bytes, free_bytes, tuple(warnings), _by_path(elsewhere))

    @property
    def used_bytes(self) -> int:
        """Bytes of all model files together; those of a file with several names count once."""
        on_volume = {
            bytes_at(record): record["size_bytes"]
            for record in self.files.values()
            if not bytes_at(record).startswith("/")
        }
        return sum(on_volume.values())

    def names_of(self) -> Counter[str]:
        """Count the names that must go before bytes are freed, by the place of the bytes (`bytes_at`)."""
        names = Counter(bytes_at(record) for record in self.files.values())
        for place in names:
            if place not in self.files and blob_repository(place) is None:
                names[place] += 1  # the file itself, which is not listed and stays
        return names

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the worker's ``inventory`` action answers with (see ``backend.contract``)."""
        return {
            "inventory": list(self.files.values()),
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
            "warnings": list(self.warnings),
            "elsewhere": list(self.elsewhere.values()),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Inventory":
        """Read what `to_json` gives.

        Raises:
            TransferError: it is something else. A broken listing must never look like an empty volume.
        """
        entries, elsewhere = value.get("inventory"), value.get("elsewhere") or []
        if not (_are_records(entries) and _are_records(elsewhere)):
            raise TransferError(
                "This version cannot read the worker's inventory.",
                hint="Deploy the worker image that belongs to this version of comfyform.",
            )
        return cls.of(
            cast("list[FileRecord]", entries),  # every entry was just checked
            total_bytes=value.get("total_bytes"),
            free_bytes=value.get("free_bytes"),
            warnings=value.get("warnings") or (),
            elsewhere=cast("list[FileRecord]", elsewhere),
        )


def bytes_at(record: FileRecord) -> str:
    """Return where a file's bytes lie: its own path, or that of what it is a link to."""
    return record.get("link") or record["path"]


def _by_path(records: Iterable[FileRecord]) -> dict[str, FileRecord]:
    return {record["path"]: record for record in sorted(records, key=lambda record: record["path"])}


def _are_records(entries: object) -> bool:
    return isinstance(entries, list) and all(_is_record(entry) for entry in entries)


def _is_record(entry: object) -> bool:
    """Tell whether a parsed JSON value has what a record must have."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("size_bytes"), int)
        and isinstance(entry.get("sha256"), str | None)
        and isinstance(entry.get("link", ""), str)
        and entry.get("how") in {"recorded", "hashed", "unknown"}
    )
