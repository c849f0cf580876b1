"""A volume with an S3 store on it, and somebody with a file that exists only on their machine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

from backend.contract import WantedFile
from backend.flow import Retry
from backend.flow.http_driver import Http
from backend.settings import Secret
from ops.local.model_dirs import LocalModels
from ops.local.scan import Root
from ops.stores.s3 import S3Store
from ops.stores.s3_client import Bucket
from tests.support.emulation import Emulator
from tests.support.ops_places import QUICK, safetensors, sources_of

PART = 256 * 1024
SIZE = 5 * PART + 77
LOCAL = "models/loras/mine.safetensors"


class Shelf:
    """A volume with an S3 store on it, and a local models folder with one file."""

    def __init__(self, emu: Emulator, http: Http, root: Path, *, volume_id: str = "") -> None:
        volume = {"name": "models", "size": 10, "dataCenter": "EU-RO-1"}
        self.emu = emu
        self.id = volume_id or str(emu.rest("POST", "/network-volumes", volume).json()["id"])
        self.folder = emu.volume_dir(self.id)
        self.mine = root / "models" / "loras" / "mine.safetensors"
        self.mine.parent.mkdir(parents=True, exist_ok=True)
        self.mine.write_bytes(safetensors(SIZE, seed=7))
        self.sha256 = hashlib.sha256(self.mine.read_bytes()).hexdigest()
        self.local = self.wanted(sha256=self.sha256)
        self.http = http
        self.root = root

    def wanted(self, **changes: Any) -> WantedFile:
        """Want the local file."""
        return cast("WantedFile", {"path": LOCAL, "source": "local:loras/mine.safetensors"} | changes)

    def bucket(self, **options: Any) -> Bucket:
        """Open the bucket, without much patience."""
        keywords: dict[str, Any] = {
            "region": "eu-ro-1",
            "access_key_id": self.emu.env["RUNPOD_S3_ACCESS_KEY_ID"],
            "secret_access_key": Secret(self.emu.env["RUNPOD_S3_SECRET_ACCESS_KEY"]),
            "retry": Retry(attempts=4, first_s=0.01, most_s=0.02),
        }
        return Bucket(self.emu.url("s3"), options.pop("volume", self.id), **(keywords | options))

    def store(self, machine: str = "staging", **options: Any) -> S3Store:
        """Open the store as some machine does, with small parts."""
        keywords: dict[str, Any] = {"pace": QUICK, "part_bytes": PART}
        return S3Store(
            options.pop("bucket", None) or self.bucket(),
            sources_of(self.emu, self.http),
            staging=self.root / machine,
            locate=lambda: LocalModels((Root(self.root / "models"),), "COMFYUI_MODELS_DIR"),
            **(keywords | options),
        )

    def files(self) -> list[str]:
        """List what is on the volume, but for records."""
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file()
            and not path.relative_to(self.folder).as_posix().startswith(".comfyform/records")
        )

    def files_of_uploads(self) -> int:
        """Count the uploads that are under way on the volume."""
        return len(list((self.folder / ".s3compat_uploads").glob("*/upload.json")))
