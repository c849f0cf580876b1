"""What a ComfyUI says about itself: its version, its features, and a GPU that is not there."""

from __future__ import annotations

import platform
import sys
from typing import Any

from emulator.comfyui.settings import Settings


def features(settings: Settings) -> dict[str, Any]:
    """Tell what this server can do."""
    shown: dict[str, Any] = {
        "supports_preview_metadata": True,
        "max_upload_size": settings.max_upload_bytes,
    }
    if settings.modern:
        shown |= {
            "supports_model_type_tags": True,
            "extension": {},
            "node_replacements": True,
            "assets": False,
        }
    return shown


def stats(settings: Settings) -> dict[str, Any]:
    """Describe the machine: a GPU that is not there, of the size that the knobs say."""
    vram = int(settings.knobs.vram_gb * 2**30)
    system = {
        "os": "linux" if settings.modern else "posix",
        "ram_total": 32 * 2**30,
        "ram_free": 24 * 2**30,
        "comfyui_version": ".".join(map(str, settings.version)),
        "required_frontend_version": "1.47.10",
        "installed_templates_version": None,
        "required_templates_version": "0.11.19",
        "python_version": sys.version,
        "pytorch_version": "2.13.0+emulated",
        "embedded_python": False,
        "argv": list(settings.argv),
    }
    if settings.modern:
        system |= {"comfy_package_versions": [], "deploy_environment": "local-git"}
    gpu = {
        "name": f"cuda:0 Emulated GPU on {platform.machine()} : cudaMallocAsync",
        "type": "cuda",
        "index": 0,
        "vram_total": vram,
        "vram_free": vram,
        "torch_vram_total": 0,
        "torch_vram_free": 0,
    }
    return {"system": system, "devices": [gpu]}
