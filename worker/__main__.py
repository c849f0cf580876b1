"""``python -m worker``: serve this endpoint's jobs on RunPod until told to stop.

ComfyUI is started first, because it takes longest; then the RunPod SDK is
loaded, which takes another second or two, and jobs are taken.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.errors import ComfyformError
from backend.flow.logging_setup import start_logging
from worker import configuration, process_memory
from worker.actions import Actions
from worker.cold_start import ColdStart
from worker.comfyui.directories import Folders
from worker.comfyui.log import ProcessLog
from worker.comfyui.publish_node_definitions import leave
from worker.comfyui.supervisor import ComfyUIProcess, Launch
from worker.configuration import SECRET_VARIABLES, WorkerConfig
from worker.generate import Studio
from worker.handler import Handler
from worker.jobs.cancellation import Stopped, StopSign
from worker.jobs.outputs import Outlet

logger = logging.getLogger("worker")


def main() -> int:
    """Serve, and return the exit code."""
    started_at = datetime.now(UTC)
    start = ColdStart(os.environ.get("COMFYFORM_START", ""), began=started_at.timestamp())
    # A container's first process ignores a signal without a handler. Once the SDK is loaded, it drains.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        config = configuration.read(os.environ)
    except ComfyformError as error:
        print(f"worker: {error}", file=sys.stderr)  # noqa: T201 - the program's own last word
        return error.exit_code
    # Before anything runs beside us: the SDK sets up logging too, but only once it is loaded.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    start_logging(config.settings.comfyform_log)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it is talkative: a line a request
    notes = config.doubts() + process_memory.close(SECRET_VARIABLES) + start.notes
    actions = Actions(config, start, notes=notes)
    if config.has_comfyui:
        folders = Folders.make()
        notes += folders.connect(config.volume, config.comfyui_home)
        launch = Launch(
            command=config.comfyui_command,
            arguments=folders.arguments(),
            environment=config.comfyui_environment(),
            folder=config.comfyui_home or folders.scratch,
        )
        comfyui = ComfyUIProcess(launch, ProcessLog(folders.log))
        comfyui.start()
        actions = Actions(config, start, studio(config, comfyui, folders), notes)
    stop = StopSign()
    if actions.studio is not None and config.warmup is not None:
        beside("warm-up", warm_up, actions.studio, config.warmup, stop)
    if actions.studio is not None and (endpoint_id := config.settings.runpod_endpoint_id):
        beside("definitions", leave, actions.studio, endpoint_id, config.version, started_at, stop)
    try:
        serve(config, actions, started_at.timestamp())
    finally:
        stop.raised.set()
        # Only now: until here the last job was still being worked on.
        if actions.studio is not None:
            actions.studio.comfyui.stop()
            actions.studio.folders.remove()
    return 0


def beside(name: str, function: Callable[..., None], *arguments: object) -> None:
    """Do something beside the jobs, as long as this program lives."""
    threading.Thread(target=function, args=arguments, name=name, daemon=True).start()


def studio(config: WorkerConfig, comfyui: ComfyUIProcess, folders: Folders) -> Studio:
    """Put together what generates."""
    return Studio(
        comfyui=comfyui,
        folders=folders,
        volume=config.volume,
        outlet=Outlet(config.volume, config.bucket),
        allow_hosts=config.settings.comfyform_allow_hosts,
        deadline_s=config.settings.comfyform_timeout_s,
        recognizes_speech=config.recognizes_speech,
    )


def warm_up(generator: Studio, workflow: Path, stop: StopSign) -> None:
    """Run the warm-up workflow; a worker that can't warm up still works."""
    try:
        generator.warm_up(workflow, stop)
        logger.info("warmed up with %s", workflow)
    except ComfyformError as error:
        logger.warning("warm-up failed: %s", error)
    except Stopped:
        logger.info("stopped before the warm-up was done")


def serve(config: WorkerConfig, actions: Actions, began: float) -> None:
    """Take jobs until SIGTERM; those that were taken are finished first.

    ``began`` is when this program did, for the times of its start.
    """
    # Its default, DEBUG, writes every prompt and every picture's base64 into the endpoint's log.
    os.environ.setdefault("RUNPOD_LOG_LEVEL", os.environ.get("RUNPOD_DEBUG_LEVEL", "INFO"))
    import runpod
    from runpod.http_client import AsyncClientSession
    from runpod.serverless.modules.rp_http import send_result

    for note in actions.notes:
        logger.warning(note)

    async def post_progress(job: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        async with AsyncClientSession() as session:
            await send_result(session, {"status": "IN_PROGRESS", "output": dict(event)}, job)

    actions.start.note("worker_s", began)
    handler = Handler(
        work=actions.do,
        version=config.version,
        jobs_at_once=config.jobs_at_once,
        post_progress=post_progress if config.can_report else None,
    )
    runpod.serverless.start(
        {"handler": handler.handle, "concurrency_modifier": lambda _: config.jobs_at_once}
    )


if __name__ == "__main__":
    sys.exit(main())
