"""What ComfyUI knows on an endpoint's workers: its node definitions, as a worker left them on the volume.

A worker writes them once its ComfyUI is ready; a client reads them over S3, so
that it knows without a worker what a worker would refuse. The file names its
endpoint, because endpoints with other images may share the volume.
"""

import gzip
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from backend.errors import ComfyformError
from backend.files.volume_s3 import VolumeS3
from backend.flow import Flow, work
from backend.flow.atomic_file import write_atomically

logger = logging.getLogger(__name__)

FOLDER: Final = ".comfyform/nodes"
"""From the volume's root."""
FORMAT: Final = 1
"""Version of the file's form, under its key ``contract``; a job's form has a version of its own."""
FRESH_S: Final = 600.0
"""How long a copy here is taken for what lies there."""


def definitions_path(endpoint_id: str) -> str:
    """Return the place of an endpoint's definitions, from the volume's root."""
    return f"{FOLDER}/{re.sub(r'[^A-Za-z0-9_-]', '_', endpoint_id)}.json.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDefinitions:
    """The answer of ``/object_info``, and whose.

    Attributes:
        object_info: class of a node → its definition.
        started_at: when the worker that asked was started.
        worker_version: of that worker.
        failed_imports: node packs and core extras whose nodes are unknown → the error of their import.
    """

    object_info: Mapping[str, Any] = field(repr=False)
    started_at: datetime
    worker_version: str = ""
    failed_imports: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Write them: JSON in gzip, the same bytes for the same definitions."""
        value = {
            "contract": FORMAT,
            "worker_version": self.worker_version,
            "started_at": self.started_at.isoformat(),
            "failed_imports": self.failed_imports,
            "object_info": self.object_info,
        }
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return gzip.compress(text.encode(), mtime=0)

    @classmethod
    def from_bytes(cls, content: bytes) -> "NodeDefinitions":
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: it is something else, or in a later format.
        """
        try:
            value = json.loads(gzip.decompress(content))
            if value["contract"] > FORMAT or not isinstance(value["object_info"], dict):
                raise ValueError("in a later format")
            return cls(
                object_info=value["object_info"],
                started_at=datetime.fromisoformat(value["started_at"]),
                worker_version=str(value.get("worker_version", "")),
                failed_imports=dict(value.get("failed_imports") or {}),
            )
        except (OSError, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"no node definitions: {error}") from error


class DefinitionsCopy:
    """An endpoint's definitions as this machine knows them: in this process, on its disk, on the volume.

    Args:
        endpoint_id: whose.
        volume: its volume.
        folder: where copies are kept between programs.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        endpoint_id: str,
        volume: VolumeS3,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = definitions_path(endpoint_id)
        self._volume = volume
        self._file = folder / self._path.rpartition("/")[2]
        self._clock = clock
        self._known: tuple[float, NodeDefinitions | None] | None = None

    def get(self, *, fresh: bool = False) -> Flow[NodeDefinitions | None]:
        """Return the definitions; None where no worker left any, or where they cannot be read.

        Args:
            fresh: as they are now, not as they were some minutes ago.
        """
        if not fresh:
            if self._known is not None and self._is_fresh(self._known[0]):
                return self._known[1]
            # A crowd does not ask all at once: while one looks, the others go on without.
            first, self._known = self._known is None, (self._clock(), None)
            kept = (yield from work(self._kept)) if first else None
            if kept is not None and self._is_fresh(kept[0]):
                self._known = kept
                return kept[1]
        try:
            content = yield from self._volume.read(self._path)
        except ComfyformError as error:
            # Whoever cannot look goes on without: the worker refuses what is wrong, too.
            logger.info("%s cannot be read: %s", self._path, error)
            content = None
        found = (yield from work(partial(self._read, content))) if content else None
        self._known = (self._clock(), found)
        return found

    def _is_fresh(self, moment: float) -> bool:
        return self._clock() - moment < FRESH_S

    def _kept(self) -> tuple[float, NodeDefinitions] | None:
        try:
            return self._file.stat().st_mtime, NodeDefinitions.from_bytes(self._file.read_bytes())
        except (OSError, ValueError):
            return None

    def _read(self, content: bytes) -> NodeDefinitions | None:
        try:
            found = NodeDefinitions.from_bytes(content)
            self._keep(content)
        except ValueError as error:
            logger.warning("%s on the volume is not what it should be: %s", self._path, error)
            return None
        return found

    def _keep(self, content: bytes) -> None:
        try:
            write_atomically(self._file, content, fsync=False)
        except OSError as error:
            logger.info("%s cannot be kept: %s", self._file, error.strerror)
