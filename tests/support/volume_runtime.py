"""An endpoint on a public base image whose worker's code and packages come from its volume."""

from __future__ import annotations

import base64
import os
import signal
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

from backend.contract import EnvironmentRecord
from ops.runtime.code_archive import CodeArchive, pack
from ops.runtime.environment_key import environment_key, read_sources
from ops.runtime.start_command import start_command
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio, until
from worker.runtime.environment_build import PACKAGES, platform_name, python_version
from worker.runtime.runtime_store import RuntimeStore

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
        args: str = "",
        **env: str,
    ) -> None:
        environment = {
            "COMFYFORM_ROLE": role,
            "COMFYFORM_CODE": archive.sha256,
            "COMFYFORM_ENVIRONMENT": key(role),
            **env,
        }
        super().__init__(emu, BASE, args=args or start_command(), volume_id=volume_id, **environment)
        self.store = RuntimeStore(self.volume / ".comfyform/runtime")

    def provide(self, tmp_path: Path, kind: str = "ops") -> EnvironmentRecord:
        """Put an environment onto the volume that leads to this test's own packages: no minutes of pip.

        Python imports `sitecustomize` from PYTHONPATH before anything else.
        """
        folder = tmp_path / f"environment-{kind}"
        (folder / PACKAGES).mkdir(parents=True, exist_ok=True)
        packages = sysconfig.get_path("purelib")
        (folder / PACKAGES / "sitecustomize.py").write_text(f"import site\nsite.addsitedir({packages!r})\n")
        facts: dict[str, Any] = {
            "kind": kind,
            "base": BASE,
            "torch": None,
            "packages": {},
            "built_at": "",
            "seconds": 0.0,
        }
        here = {"python": python_version(), "platform": platform_name()}
        return self.store.publish(folder, key(kind), facts | here)

    def restart(self) -> None:
        """Kill the worker's process, as a host that fails; the container's disk stays."""
        before = self.process_id()
        assert before is not None
        os.killpg(before, signal.SIGKILL)
        until(lambda: self.process_id() not in {before, None})

    def process_id(self) -> int | None:
        """Return the process of this endpoint's worker; None while it is started again."""
        (worker,) = (one for one in self.emu.state()["workers"] if one["endpointId"] == self.endpoint_id)
        return worker["pid"]  # type: ignore[no-any-return]

    def log(self) -> str:
        """Return what the worker's containers wrote."""
        return "".join(path.read_text() for path in sorted((self.emu.root / "logs").glob("*.log")))

    def build(self, kind: str = "ops") -> dict[str, Any]:
        """Build an environment and return its record."""
        job_id = self.submit(action="build_environment", kind=kind, key=key(kind), base=BASE)
        job = self.wait(job_id, 1200)
        assert job["status"] == "COMPLETED", job.get("error")
        return dict(job["output"]["environment"])
