"""The cloud backend before an emulated Comfy API v2, and what that server says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from backend import Settings
from backend.comfy_cloud.api import ComfyApi
from backend.comfy_cloud.backend import CloudBackend
from backend.flow import Retry
from backend.jobs.journal import Journal
from backend.settings import Secret
from tests.support.emulation import Emulator

API = "/comfy-api/api/v2"
QUICK = Retry(attempts=3, first_s=0.01, most_s=0.02)


def flows_for(emu: Emulator, tmp_path: Path, **changes: str) -> CloudBackend:
    env = emu.env | {"COMFYFORM_STATE_DIR": str(tmp_path / "state")} | changes
    api = ComfyApi(env["COMFY_API_URL"], Secret(env["COMFY_API_KEY"]), retry=QUICK)
    return CloudBackend(api, journal=Journal.from_settings(Settings.from_env(env)))


def jobs_of(emu: Emulator) -> list[dict[str, Any]]:
    """What the server knows of jobs."""
    headers = {"Authorization": f"Bearer {emu.env['COMFY_API_KEY']}"}
    jobs: list[dict[str, Any]] = httpx.get(f"{emu.env['COMFY_API_URL']}/api/v2/jobs", headers=headers).json()[
        "jobs"
    ]
    return jobs


def envelope(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": f"because of {code}", "details": None}}


def job_body(status: str, **changes: Any) -> dict[str, Any]:
    return {"id": "j1", "status": status, "outputs": [], "error": None, "urls": {}} | changes
