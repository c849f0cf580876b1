"""The cloud backend before the emulated Comfy API v2, as fixtures: what works and what fails share it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import Backend
from backend.comfy_cloud.backend import CloudBackend
from tests.support.cloud_server import flows_for
from tests.support.comfyui_program import safetensors
from tests.support.emulation import Emulator


@pytest.fixture
def flows(emu: Emulator, tmp_path: Path) -> CloudBackend:
    """Its flows, with one small checkpoint on the server."""
    path = emu.root / "comfyui/models/checkpoints/tiny.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors())
    return flows_for(emu, tmp_path)


@pytest.fixture
def cloud(flows: CloudBackend) -> Iterator[Backend]:
    """Its sync face."""
    with Backend(flows, deadline_s=20.0) as backend:
        yield backend
