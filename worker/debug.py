"""What ``health`` and ``debug`` answer: how this worker is, and everything that lies on its volume.

``debug`` keeps the names that the origin's handlers answered with (facts: comfyui-mcp.md 2.3),
because people's scripts read them, and adds what they lacked: every model file, with its size.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from backend.contract import SHARED_INPUTS, FileRecord
from ops.models.inventory import Inventory
from ops.models.volume_layout import HF_HUB, MODELS
from worker.comfyui.directories import Folders
from worker.comfyui.probe import system_stats
from worker.comfyui.supervisor import ComfyUIProcess, State
from worker.configuration import WorkerConfig
from worker.generate import Studio

LISTED: Final = 1000
"""Names of one folder at most: an answer must stay small enough to be sent."""


def health(config: WorkerConfig, comfyui: ComfyUIProcess | None) -> dict[str, Any]:
    """Tell whether this worker can do its work, and why not."""
    problems = [] if config.volume.is_dir() else [f"No network volume at {config.volume}."]
    answer: dict[str, Any] = {
        "volume": {"path": str(config.volume), "mounted": config.volume.is_dir()},
        "bucket_configured": config.bucket is not None,
        "comfyui": None,
        "warnings": [],
    }
    if comfyui is not None:
        stats = _stats(comfyui)
        failed = comfyui.failed_imports
        answer["comfyui"] = {
            "state": comfyui.state.value,
            "url": comfyui.url,
            "deaths": list(comfyui.deaths),
            "failed_imports": failed,
        }
        answer["warnings"] = [f"{name} could not be imported: {reason}" for name, reason in failed.items()]
        if stats is None:
            problems.append(comfyui.down(f"ComfyUI is {comfyui.state.value}").message)
        else:
            system = stats.get("system", {})
            answer["comfyui"] |= {
                "version": system.get("comfyui_version"),
                "devices": stats.get("devices", []),
            }
    return answer | {"healthy": not problems, "problems": problems}


def debug(
    config: WorkerConfig,
    studio: Studio | None,
    inventory: Inventory | None,
    notes: list[str],
) -> dict[str, Any]:
    """Tell everything that helps to find out why something is not there.

    Args:
        config: what the worker was told.
        studio: its ComfyUI with the folders around it, where it has one.
        inventory: the volume's models, or None where no volume is mounted.
        notes: what could not be shown to ComfyUI.
    """
    comfyui, folders = (studio.comfyui, studio.folders) if studio else (None, None)
    answer = health(config, comfyui)
    return (
        answer
        | _origin(config, comfyui, folders)
        | {
            "inventory": by_category(inventory.files) if inventory else {},
            "total_bytes": inventory.total_bytes if inventory else None,
            "free_bytes": inventory.free_bytes if inventory else None,
            "comfyui_log": comfyui.log_tail(40) if comfyui else [],
            "warnings": [*answer["warnings"], *notes, *(inventory.warnings if inventory else ())],
        }
    )


def by_category(files: Mapping[str, FileRecord]) -> dict[str, list[FileRecord]]:
    """Sort records into ComfyUI's categories, by the first folder under the models root.

    Files in the Hugging Face cache are the category ``huggingface-cache``.
    """
    result: dict[str, list[FileRecord]] = defaultdict(list)
    for path, record in files.items():
        first = path.removeprefix(f"{MODELS}/").split("/")[0]
        result["huggingface-cache" if path.startswith(HF_HUB) else first].append(record)
    return dict(sorted(result.items()))


def _stats(comfyui: ComfyUIProcess) -> dict[str, Any] | None:
    """Ask ComfyUI what it is, where it is ready."""
    port = urlsplit(comfyui.url or "").port
    return system_stats(port) if port else None


def _origin(config: WorkerConfig, comfyui: ComfyUIProcess | None, folders: Folders | None) -> dict[str, Any]:
    """Return the origin's keys; where a folder lies elsewhere here, its key tells of the one that counts."""
    models = config.volume / MODELS
    answer: dict[str, Any] = {
        "network_volume_path": str(config.volume),
        **_listing("network_volume", config.volume),
        "comfyui_dir_exists": config.comfyui_home is not None,
        "checkpoints_path": str(models / "checkpoints"),
        **_listing("checkpoints", models / "checkpoints"),
        "sonic_path": str(models / "sonic"),
        **_listing("sonic", models / "sonic"),
        "f5_tts_path": str(models / "checkpoints" / "F5-TTS"),
        **_listing("f5_tts", models / "checkpoints" / "F5-TTS"),
        "video_path": str(models / "checkpoints" / "video"),
        **_listing("video", models / "checkpoints" / "video"),
        "supabase_configured": False,
        "comfyui_process_alive": comfyui is not None and comfyui.pid is not None,
    }
    for name in SHARED_INPUTS:
        seen = folders.input / name if folders else None
        answer |= {
            f"{name}_volume_path": str(config.volume / name),
            f"{name}_volume_exists": (config.volume / name).is_dir(),
            f"{name}_comfyui_path": str(seen) if seen else None,
            f"{name}_comfyui_is_symlink": seen is not None and seen.is_symlink(),
            f"{name}_contents": _names(config.volume / name),
        }
    if comfyui is not None and comfyui.state is State.READY:
        answer["comfyui_api_status"] = 200 if _stats(comfyui) is not None else "Error: no answer"
    return answer


def _listing(key: str, folder: Path) -> dict[str, Any]:
    return {f"{key}_exists": folder.is_dir(), f"{key}_contents": _names(folder)}


def _names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none where the folder does not exist."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    more = len(names) - LISTED
    return [*names[:LISTED], f"… and {more} more"] if more > 0 else names
