"""Somebody with a volume, a registry of their own, and the commands on models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.settings import Settings
from tests.support.emulation import Emulator
from tests.support.ops_places import settings_of

ROOT = Path(__file__).parents[2]
SVD = "hf:stabilityai/stable-video-diffusion-img2vid-xt-1-1:svd_xt_1_1.safetensors"
HEAD = """\
# Ours.
required:
  sonic: # the pack
    files:
      - {path: sonic/unet.pth, source: 'hf:LeonJoe13/Sonic:Sonic/unet.pth'}

# Things that are nice to have.
optional: {}
"""


class Desk:
    """Somebody with a volume, a registry of their own, and commands."""

    def __init__(self, emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.emu = emu
        volume = {"name": "models", "size": 10, "dataCenter": "EU-RO-1"}
        self.volume_id = str(emu.rest("POST", "/network-volumes", volume).json()["id"])
        self.volume = emu.volume_dir(self.volume_id)
        self.registry = tmp_path / "models-registry.yaml"
        self.registry.write_text(HEAD)
        self.models = tmp_path / "models"
        self.models.mkdir()
        self.env = {
            "RUNPOD_VOLUME_ID": self.volume_id,
            "COMFYFORM_STATE_DIR": str(tmp_path / "state"),
            "COMFYUI_MODELS_DIR": str(self.models),
        }
        self.settings: Settings = settings_of(emu, **self.env)
        self._capsys = capsys

    def run(self, command: Any, *arguments: str, **options: Any) -> Any:
        """Run a command with --json and return what it printed."""
        self._capsys.readouterr()
        assert command(*arguments, json=True, settings=self.settings, **options) == 0
        return json.loads(self._capsys.readouterr().out)
