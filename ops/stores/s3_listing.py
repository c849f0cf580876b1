"""List the model files of a volume's bucket, and those in the other places that pods use."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from backend.contract import FileRecord
from ops.models.other_places import OTHER_PLACES, belongs_at
from ops.models.record import Record, describe
from ops.models.volume_layout import HF_HUB, MODELS, REPLACED, listed_paths, record_path
from ops.stores.s3_client import Bucket, Stored

_READERS: Final = 8
"""Requests at a time."""


def list_files(bucket: Bucket) -> tuple[list[FileRecord], list[FileRecord]]:
    """Return the model files with their records, and those in other places, which have none."""
    stored = _list(bucket, (MODELS, HF_HUB, REPLACED, *OTHER_PLACES))
    by_key = {entry.key: entry for entry in stored}
    with ThreadPoolExecutor(_READERS) as readers:
        described = readers.map(lambda path: describe_stored(bucket, by_key[path]), listed_paths(by_key))
        files = list(described)
    return files, [unrecorded(entry) for entry in stored if belongs_at(entry.key)]


def list_elsewhere(bucket: Bucket) -> list[Stored]:
    """Return the model files in other places."""
    return [entry for entry in _list(bucket, OTHER_PLACES) if belongs_at(entry.key)]


def describe_stored(bucket: Bucket, stored: Stored) -> FileRecord:
    """Describe a file by its record."""
    content = bucket.read(record_path(stored.key))
    record = None if content is None else Record.from_bytes(content)
    return describe(stored.key, stored.size_bytes, stored.modified_s, record)


def unrecorded(stored: Stored) -> FileRecord:
    """Describe a file whose record, if it has one, does not count."""
    return describe(stored.key, stored.size_bytes, stored.modified_s, None)


def _list(bucket: Bucket, folders: Sequence[str]) -> list[Stored]:
    with ThreadPoolExecutor(_READERS) as readers:
        listed = readers.map(bucket.list, [f"{folder}/" for folder in folders])
        return [entry for entries in listed for entry in entries]
