"""The runtime folder of a volume: code archives, environments with their records, and what is wrong there.

::

    .comfyform/runtime/
    ├── code/<sha256>.tar.gz
    └── environments/<key>/
        ├── <sha256>.tar.zst      or .tar.gz
        └── record.json           written last: an archive with a record was complete
"""

import contextlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, cast

from backend.contract import EnvironmentRecord
from worker.runtime import archives, bootstrap

RECORD: Final = "record.json"
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


class RuntimeStore:
    """The runtime folder of one volume."""

    def __init__(self, root: Path) -> None:
        """Take the folder, whether or not it exists yet."""
        self.root = root

    def code(self) -> list[str]:
        """List the sha256 of every code archive."""
        names = [path.name.removesuffix(archives.GZIP) for path in _children(self.root / "code")]
        return [name for name in names if is_sha256(name)]

    def environment(self, key: str) -> Path:
        """Return the folder of an environment."""
        return self.root / "environments" / key

    def record(self, key: str) -> EnvironmentRecord | None:
        """Return an environment's record, or None where it or its archive was not found or cannot be read."""
        try:
            record = json.loads((self.environment(key) / RECORD).read_bytes())
        except (OSError, ValueError):
            return None
        return cast("EnvironmentRecord", record) if self._is_whole(key, record) else None

    def archive(self, record: EnvironmentRecord) -> Path:
        """Return where a record's archive lies."""
        return self.environment(record["key"]) / record["archive"]

    def find_archive(self, key: str, sha256: str) -> Path | None:
        """Return where an environment's archive with a sha256 lies, or None."""
        paths = [self.environment(key) / (sha256 + ending) for ending in (archives.ZSTD, archives.GZIP)]
        return next((path for path in paths if path.is_file()), None)

    def verified(self, key: str) -> EnvironmentRecord | None:
        """Return an environment's record, where its archive still has the bytes that it names."""
        record = self.record(key)
        if record is None or archives.digest(self.archive(record)) != record["sha256"]:
            return None
        return record

    def publish(self, source: Path, key: str, facts: Mapping[str, Any]) -> EnvironmentRecord:
        """Pack a folder as the archive of an environment, and write its record.

        Raises:
            OSError, TransferError: the volume could not take it; no record was written then.
        """
        folder, ending = self.environment(key), archives.best_ending()

        def write(file: Any) -> str:
            archives.write(source, file, ending)
            file.flush()
            return archives.digest(Path(file.name)) + ending

        path = Path(bootstrap.publish(str(folder), f"archive{ending}", write))
        record: dict[str, Any] = {
            "key": key,
            "sha256": path.name.removesuffix(ending),
            "archive": path.name,
            "size": path.stat().st_size,
            **facts,
        }
        text = json.dumps(record, indent=1).encode()
        bootstrap.publish(str(folder), RECORD, lambda file: file.write(text))
        return cast("EnvironmentRecord", record)

    def listing(self, *, hash: bool = False) -> dict[str, Any]:  # noqa: A002 - the contract's word
        """Return what is there.

        Args:
            hash: read every environment's archive too; otherwise only its size is compared.

        Returns:
            ``code``: sha256 of each code archive; ``environments``: records; ``damaged``: paths below the
            runtime folder of what is not whole: wrong bytes, an archive without a record, leftovers.
        """
        code = [
            name
            for name in self.code()
            if archives.digest(self.root / "code" / (name + archives.GZIP)) == name
        ]
        environments = []
        for folder in _children(self.root / "environments"):
            record = self.verified(folder.name) if hash else self.record(folder.name)
            environments += [record] if record else []
        good = {f"code/{name}{archives.GZIP}" for name in code}
        for record in environments:
            good |= {f"environments/{record['key']}/{name}" for name in (record["archive"], RECORD)}
        return {
            "code": code,
            "environments": environments,
            "damaged": [name for name in self._files() if name not in good],
        }

    def prune(self, keep: Collection[str]) -> list[str]:
        """Remove code and environments whose sha256 or key is not in ``keep``; return their names."""
        removed = []
        for path in _children(self.root / "code"):
            if path.name.removesuffix(archives.GZIP) not in keep and not path.name.startswith("."):
                path.unlink(missing_ok=True)
                removed.append(f"code/{path.name}")
        for folder in _children(self.root / "environments"):
            if folder.name not in keep:
                # The record first: without it the rest is not taken for an environment.
                (folder / RECORD).unlink(missing_ok=True)
                shutil.rmtree(folder)
                removed.append(f"environments/{folder.name}")
            elif record := self.record(folder.name):
                for path in _children(folder):
                    # Of an earlier build; an endpoint that still names it has its sha256 in `keep`.
                    stale = path.name not in {record["archive"], RECORD} and not path.name.startswith(".")
                    if stale and path.name.partition(".")[0] not in keep:
                        path.unlink(missing_ok=True)
                        removed.append(f"environments/{folder.name}/{path.name}")
        return removed

    def _files(self) -> list[str]:
        """List every file, without those that are being written."""
        found = sorted(
            path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith(".")
        )
        return [path.relative_to(self.root).as_posix() for path in found]

    def _is_whole(self, key: str, record: object) -> bool:
        """Tell whether a record is of the form that `publish` writes, and its archive has the right size."""
        if not isinstance(record, dict) or record.get("key") != key:
            return False
        archive, size = record.get("archive"), record.get("size")
        if not isinstance(archive, str) or "/" in archive or not is_sha256(str(record.get("sha256"))):
            return False
        with contextlib.suppress(OSError):
            return (self.environment(key) / archive).stat().st_size == size
        return False


def is_sha256(text: str) -> bool:
    """Tell whether a text is 64 lowercase hex digits."""
    return _SHA256.match(text) is not None


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
