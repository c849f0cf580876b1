"""An endpoint on a public base image whose worker's code and packages come from its volume."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

from ops.runtime.code_archive import CodeArchive, pack
from ops.runtime.environment_key import environment_key, read_sources
from ops.runtime.start_command import start_command
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio

ROOT = Path(__file__).parents[2]
BASE = "python:3.12.12-slim-bookworm"


@cache
def code() -> CodeArchive:
    """Return this repository's code."""
    return pack(ROOT)


def key(kind: str = "ops") -> str:
    """Return the key of an environment from this repository's locks."""
    return environment_key(kind, read_sources(kind, ROOT), BASE)


def install_job(archive: CodeArchive) -> dict[str, Any]:
    """Return the input of a job that installs code."""
    return {
        "action": "install",
        "sha256": archive.sha256,
        "archive": base64.b64encode(archive.data).decode(),
    }


class VolumeEndpoint(Studio):
    """An endpoint without an image of its own."""

    def __init__(
        self,
        emu: Emulator,
        archive: CodeArchive,
        *,
        role: str = "ops",
        volume_id: str | None = None,
        **env: str,
    ) -> None:
        environment = {
            "COMFYFORM_ROLE": role,
            "COMFYFORM_CODE": archive.sha256,
            "COMFYFORM_ENVIRONMENT": key(role),
            **env,
        }
        super().__init__(emu, BASE, args=start_command(), volume_id=volume_id, **environment)
        self.store = self.volume / ".comfyform/runtime"

    def build(self, kind: str = "ops") -> dict[str, Any]:
        """Build an environment and return its record."""
        job_id = self.submit(action="build_environment", kind=kind, key=key(kind), base=BASE)
        job = self.wait(job_id, 1200)
        assert job["status"] == "COMPLETED", job.get("error")
        return dict(job["output"]["environment"])
