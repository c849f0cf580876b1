"""What this worker's ComfyUI knows, left on the volume for clients that ask before they pay.

A pack or a core extra that failed to import is named in them: its nodes are unknown, not absent, so clients
refuse no workflow for a node that another worker may have.
"""

import logging
from datetime import datetime

from backend.comfyui.api import ComfyUI
from backend.comfyui.model_folders import MODELS
from backend.comfyui.node_definitions import NodeDefinitions, definitions_path
from backend.errors import ComfyformError
from backend.flow.atomic_download import land
from backend.flow.http_driver import Http
from ops.files.atomic import own_place
from worker.generate import Studio
from worker.jobs.cancellation import Stopped, StopSign

logger = logging.getLogger("worker")


def leave(studio: Studio, endpoint_id: str, version: str, started_at: datetime, stop: StopSign) -> None:
    """Write the node definitions to the volume, once ComfyUI is ready and no job waits for it.

    Args:
        studio: this worker's.
        endpoint_id: whose definitions they are.
        version: of this worker.
        started_at: when this worker was started: it tells which release of the endpoint it is of.
        stop: ends the wait.
    """
    try:
        if why := _left_out(studio):
            logger.info("no node definitions are left on the volume: %s", why)
            return
        with studio.at_rest(stop) as url, Http(wait=stop.wait) as http:
            object_info = http.run(ComfyUI(url).object_info())
            failed = studio.comfyui.failed_imports
        for name, reason in failed.items():
            logger.warning("%s could not be imported: %s", name, reason)
        known = NodeDefinitions(
            object_info=object_info, started_at=started_at, worker_version=version, failed_imports=failed
        )
        path = definitions_path(endpoint_id)
        land(known.to_bytes(), own_place(studio.volume, path), what="the node definitions")
        logger.info("left %d node definitions on the volume as %s", len(object_info), path)
    except (ComfyformError, OSError) as error:
        logger.warning("no node definitions are left on the volume: %s", error)
    except Stopped:
        logger.info("stopped before the node definitions were left on the volume")


def _left_out(studio: Studio) -> str | None:
    """Say why the definitions of this worker are not for others, or None."""
    if not studio.volume.is_dir():
        return "no volume is mounted"
    if (studio.volume / MODELS / "custom_nodes").is_dir():
        return "it has node packs of its own, which may change at any time"
    return None
