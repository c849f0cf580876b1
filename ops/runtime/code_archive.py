"""The code archive: backend, ops and worker in one tar.gz whose bytes depend on its sources alone."""

import gzip
import hashlib
import io
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backend.errors import ConfigError

PACKAGES: Final = ("backend", "ops", "worker")
"""What a worker imports of this project."""
LARGEST: Final = 7_000_000
"""Bytes of an archive that still fits a /run request of 10 MB as base64."""


@dataclass(frozen=True, slots=True)
class CodeArchive:
    """An archive and its name.

    Attributes:
        data: a tar.gz.
        sha256: of ``data``, 64 lowercase hex digits.
    """

    data: bytes = field(repr=False)
    sha256: str


def pack(root: Path, replaced: Mapping[str, bytes] | None = None) -> CodeArchive:
    """Pack the code below ``root``: sorted names, no times, no owner, no bytecode.

    Args:
        root: the folder that holds ``backend``, ``ops`` and ``worker``.
        replaced: path in the archive → other bytes, such as a lock of one's own for ``worker/comfyui.lock``.

    Raises:
        ConfigError: a package was not found, or the archive is too large for a job.
    """
    missing = [name for name in PACKAGES if not (root / name / "__init__.py").is_file()]
    if missing:
        raise ConfigError(f"{', '.join(missing)} not found in {root}, where the worker's code is expected.")
    files = {**dict(_sources(root)), **_metadata(root), **(replaced or {})}
    buffer = io.BytesIO()
    with (
        # The system byte of the header differs between Python versions; mtime and name are left out.
        gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(files[name]), 0o644
            tar.addfile(member, io.BytesIO(files[name]))
    data = buffer.getvalue()
    if len(data) > LARGEST:
        raise ConfigError(f"The worker's code is {len(data)} bytes packed; a job takes at most {LARGEST}.")
    return CodeArchive(data, hashlib.sha256(data).hexdigest())


def _sources(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the packages: name in the archive and content."""
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            if path.is_file() and not hidden and path.parent.name != "__pycache__":
                yield path.relative_to(root).as_posix(), path.read_bytes()


def _metadata(root: Path) -> dict[str, bytes]:
    """Return what `importlib.metadata` reads a version from; nothing where the project file was not found."""
    project = root / "pyproject.toml"
    if not project.is_file():
        return {}
    about = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    name, version = about["name"], about["version"]
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {f"{name}-{version}.dist-info/METADATA": text.encode()}
