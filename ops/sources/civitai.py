"""What CivitAI says of a model version, and which of its files a source means. Pure.

Source: developer.civitai.com, model-versions, read 2026-11-22 (facts: models.md 11).
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from backend.errors import SourceMissing
from backend.validation.json_reader import as_object
from ops.models.record import SHA256
from ops.models.source_url import CivitaiSource

_DOWNLOAD: Final = "/api/download/models"


def files_of(version: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the files of a version, as CivitAI describes them."""
    listed = version.get("files")
    return [file for file in listed if isinstance(file, dict)] if isinstance(listed, list) else []


def chosen_file(version: Mapping[str, Any], source: CivitaiSource) -> Mapping[str, Any]:
    """Return the file that a source means; empty where the version names none and none is chosen.

    Raises:
        SourceMissing: the version has no such file, or several; the message lists its files.
    """
    files = files_of(version)
    if source.file_id is not None:
        found = [file for file in files if file.get("id") == source.file_id]
    elif source.chosen:
        found = [file for file in files if all(_has(file, key, value) for key, value in source.chosen)]
        found = [file for file in found if file.get("primary")] or found
    else:
        return next((file for file in files if file.get("primary")), files[0] if files else {})
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"civitai:{source.version_id}/{file.get('id')} ({_words(file)})" for file in files)
    raise SourceMissing(
        f"{source} means {len(found) or 'no'} file{'s' if found else ''} of its version.",
        hint=f"Name one: {known}." if known else "CivitAI lists no files of it.",
    )


def download_path(version: Mapping[str, Any], source: CivitaiSource) -> str:
    """Return the path of a file's download, below CivitAI's address."""
    path = f"{_DOWNLOAD}/{source.version_id}"
    if source.file_id is None and not source.chosen:
        return path
    file = chosen_file(version, source)
    address = urlsplit(str(file.get("downloadUrl") or ""))
    query = dict(parse_qsl(address.query)) if address.path == path else {}
    query.pop("token", None)
    if not query:
        about = {"type": file.get("type"), **as_object(file.get("metadata"))}
        query = {key: str(about[key]) for key in CivitaiSource.CHOICES if about.get(key)}
    if source.file_id is not None:
        query["fileId"] = str(source.file_id)
    return f"{path}?{urlencode(query)}"


def announced_sha256(file: Mapping[str, Any]) -> str | None:
    """Return the hash that CivitAI announces of a file."""
    sha256 = str(as_object(file.get("hashes")).get("SHA256") or "").lower()
    return sha256 if SHA256.match(sha256) else None


def _has(file: Mapping[str, Any], key: str, value: str) -> bool:
    """Tell whether a file has a property that an address chose."""
    own = file.get("type") if key == "type" else as_object(file.get("metadata")).get(key)
    return str(own or "").lower() == value.lower()


def _words(file: Mapping[str, Any]) -> str:
    about = as_object(file.get("metadata"))
    parts = [file.get("name"), file.get("type"), *(about.get(key) for key in ("format", "size", "fp"))]
    return ", ".join(str(part) for part in parts if part)
