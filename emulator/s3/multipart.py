"""Multipart uploads: parts wait in a hidden folder on the volume, and count against its size."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from emulator.numbers import whole_number
from emulator.s3.errors import S3Error, no_such_upload
from emulator.s3.volume import READ_BYTES, UPLOADS, Stored, Volume

MOST_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """One part that has arrived."""

    number: int
    size: int
    etag: str
    modified: float
    path: Path


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload under way; its folder holds `<number>-<md5>` for each part."""

    id: str
    key: str
    started: float
    folder: Path

    def parts(self) -> list[Part]:
        """List the parts that are there, by number."""
        found = []
        for path in self.folder.iterdir():
            if match := re.fullmatch(r"(\d+)-([0-9a-f]{32})", path.name):
                info = path.stat()
                found.append(Part(int(match[1]), info.st_size, match[2], info.st_mtime, path))
        return sorted(found, key=lambda part: part.number)


def create(volume: Volume, key: str) -> Upload:
    """Begin an upload."""
    volume.path(key)
    upload = Upload(uuid.uuid4().hex, key, time.time(), volume.root / UPLOADS)
    folder = upload.folder / upload.id
    folder.mkdir(parents=True)
    (folder / "upload.json").write_text(json.dumps({"key": key, "started": upload.started}))
    return Upload(upload.id, key, upload.started, folder)


def find(volume: Volume, upload_id: str, key: str) -> Upload:
    """Return an upload.

    Raises:
        S3Error: there is none of that id, or it is for another key.
    """
    folder = volume.root / UPLOADS / upload_id
    if not re.fullmatch(r"[0-9a-f]{32}", upload_id) or not (folder / "upload.json").is_file():
        raise no_such_upload(upload_id)
    upload = _read(folder)
    if upload.key != key:
        raise no_such_upload(upload_id)
    return upload


def every(volume: Volume) -> list[Upload]:
    """List all uploads under way, by key and then by start."""
    folder = volume.root / UPLOADS
    found = [_read(path.parent) for path in folder.glob("*/upload.json")]
    return sorted(found, key=lambda upload: (upload.key, upload.started))


def _read(folder: Path) -> Upload:
    remaining = json.loads((folder / "upload.json").read_text())
    return Upload(folder.name, remaining["key"], remaining["started"], folder)


def check_number(text: str) -> int:
    """Read a part number.

    Raises:
        S3Error: it is not from 1 to 10,000.
    """
    number = whole_number(text)
    if number is None or not 1 <= number <= MOST_PARTS:
        raise S3Error(400, "InvalidArgument", "Part number must be an integer between 1 and 10000")
    return number


def add(upload: Upload, number: int, aside: Path, md5: str) -> None:
    """Keep a part that has arrived; an earlier one of the same number is replaced."""
    if not upload.folder.is_dir():
        raise no_such_upload(upload.id)
    for old in upload.folder.glob(f"{number}-*"):
        old.unlink()
    aside.replace(upload.folder / f"{number}-{md5}")


def complete(volume: Volume, upload: Upload, body: bytes) -> Stored:
    """Put the named parts together under the key, and forget the upload.

    Raises:
        S3Error: the list is malformed, out of order, or names a part that is not there.
    """
    parts = _named(upload, body)
    aside = volume.aside()
    with aside.open("wb") as target:
        for part in parts:
            with part.path.open("rb") as source:
                shutil.copyfileobj(source, target, READ_BYTES)
            # Each part goes as soon as it is copied: the volume need not hold the file twice.
            part.path.unlink()
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    etag = f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"
    stored = volume.publish(aside, upload.key, etag)
    shutil.rmtree(upload.folder, ignore_errors=True)
    return stored


def _named(upload: Upload, body: bytes) -> list[Part]:
    try:
        root = ET.fromstring(body)  # noqa: S314 - loopback only, and expat limits entity expansion
    except ET.ParseError:
        raise S3Error(400, "MalformedXML", "The XML you provided was not well-formed") from None
    required = [
        (int(part.findtext("{*}PartNumber", "0")), part.findtext("{*}ETag", "").strip('"'))
        for part in root.iterfind("{*}Part")
    ]
    if not required:
        raise S3Error(400, "MalformedXML", "You must specify at least one part")
    if sorted(required) != required or len({number for number, _ in required}) != len(required):
        raise S3Error(400, "InvalidPartOrder", "The list of parts was not in ascending order")
    there = {(part.number, part.etag): part for part in upload.parts()}
    missing = [str(number) for number, etag in required if (number, etag) not in there]
    if missing:
        message = f"One or more of the specified parts could not be found: {', '.join(missing)}"
        raise S3Error(400, "InvalidPart", message)
    return [there[one] for one in required]


def abort(upload: Upload) -> None:
    """Forget an upload and its parts."""
    shutil.rmtree(upload.folder, ignore_errors=True)
