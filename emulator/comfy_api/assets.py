"""The assets of the Comfy API v2: files under ids, bytes kept once however often they are uploaded."""

from __future__ import annotations

import hashlib
import mimetypes
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile

from emulator.comfy_api.errors import Refusal, timestamp
from emulator.control.clock import Clock
from emulator.numbers import whole_number

COPY_BYTES = 1 << 20
LINK_LIFE_S = 3600
RETENTION_S = range(60, 604_800 + 1)


@dataclass(frozen=True, slots=True)
class Asset:
    """One record over some bytes. `hash` is None where the blake3 package is not there to compute it."""

    id: str
    path: Path
    name: str
    content_type: str
    created_at: float
    hash: str | None = None
    expires_at: float | None = None
    job_id: str | None = None


class Assets:
    """All assets, those that jobs made included. Blobs lie in a folder, named by their content."""

    def __init__(self, folder: Path, clock: Clock, url: str) -> None:
        self._folder = folder
        self._clock = clock
        self._url = url
        self._assets: dict[str, Asset] = {}

    def clear(self) -> None:
        """Forget all of them, and their bytes."""
        self._assets.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def get(self, asset_id: str) -> Asset:
        """Return an asset.

        Raises:
            Refusal: there is none, or it has expired.
        """
        asset = self._assets.get(asset_id)
        expired = asset is not None and asset.expires_at is not None and asset.expires_at < self._clock.now()
        if asset is None or expired:
            raise Refusal(404, "not_found", f"No asset {asset_id}.")
        return asset

    def knows(self, asset_id: str) -> bool:
        """Tell whether an asset is there."""
        try:
            self.get(asset_id)
        except Refusal:
            return False
        return True

    def by_hash(self, blake3: str) -> Path | None:
        """Return bytes that were uploaded before."""
        return next((one.path for one in self._assets.values() if one.hash == blake3), None)

    def take(self, file: UploadFile, fields: dict[str, str]) -> tuple[Asset, bool]:
        """Keep an upload; tell whether its bytes are new.

        Raises:
            Refusal: the bytes do not have the hash that was promised, or a field is out of range.
        """
        life = retention(fields.get("expires_in"))
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f"{uuid.uuid4().hex}.part"
        with aside.open("wb") as target:
            shutil.copyfileobj(file.file, target, COPY_BYTES)
        found = blake3_of(aside)
        if found is not None and fields.get("expected_hash", found) != found:
            aside.unlink()
            message = "The bytes do not match expected_hash."
            raise Refusal(409, "hash_mismatch", message, {"computed": found})
        blob = self._folder / (found or sha256_of(aside)).replace(":", "-")
        new = not blob.exists()
        aside.replace(blob)
        return self.add(blob, fields["file_path"], fields["content_type"], found, life), new

    def add(
        self,
        path: Path,
        name: str,
        content_type: str | None = None,
        blake3: str | None = None,
        life_s: int | None = None,
        job_id: str | None = None,
    ) -> Asset:
        """Make a record over bytes that are there."""
        kind = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        now = self._clock.now()
        expires_at = None if life_s is None else now + life_s
        asset = Asset(str(uuid.uuid4()), path, name, kind, now, blake3, expires_at, job_id)
        self._assets[asset.id] = asset
        return asset

    def remove(self, asset_id: str) -> None:
        """Delete a record; the bytes stay while others need them.

        Raises:
            Refusal: there is none.
        """
        asset = self.get(asset_id)
        del self._assets[asset_id]
        inside = asset.path.parent == self._folder
        if inside and all(other.path != asset.path for other in self._assets.values()):
            asset.path.unlink(missing_ok=True)

    def to_json(self, asset: Asset) -> dict[str, Any]:
        """Describe an asset, with a link to its content that is good for an hour."""
        body = {
            "id": asset.id,
            "hash": asset.hash,
            "size_bytes": asset.path.stat().st_size if asset.path.exists() else 0,
            "content_type": asset.content_type,
            "file_path": asset.name,
            "created_at": timestamp(asset.created_at),
            "url": f"{self._url}/assets/{asset.id}/content",
            "url_expires_at": timestamp(self._clock.now() + LINK_LIFE_S),
        }
        if asset.expires_at is not None:
            body["expires_at"] = timestamp(asset.expires_at)
        if asset.job_id is not None:
            body["job_id"] = asset.job_id
        return body


def retention(text: str | None) -> int | None:
    """Read `expires_in`.

    Raises:
        Refusal: it is no number of seconds from a minute to a week.
    """
    if text is None:
        return None
    seconds = whole_number(str(text))
    if seconds is None or seconds not in RETENTION_S:
        raise Refusal(422, "invalid_request", "expires_in must be between 60 and 604800 seconds.")
    return seconds


def blake3_of(path: Path) -> str | None:
    """Hash a file as the API names bytes; None without the blake3 package (it comes with comfy-sdk)."""
    try:
        import blake3
    except ImportError:
        return None
    hasher = blake3.blake3()
    hasher.update_mmap(path) if path.stat().st_size else None
    return f"blake3:{hasher.hexdigest()}"


def sha256_of(path: Path) -> str:
    """Name bytes where blake3 is not there."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
