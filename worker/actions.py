"""What each action does, with what this worker has. Runs in a job's own thread."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.contract import MODEL_ACTIONS
from backend.drivers import Http
from backend.errors import NotSupported
from worker import debug, models
from worker.comfyui_process import ComfyUIProcess
from worker.configuration import WorkerConfig
from worker.envelope import Request
from worker.folders import Folders
from worker.handler import Tell
from worker.stop import StopSign


@dataclass(frozen=True, slots=True)
class Actions:
    """All that a worker can do.

    Attributes:
        config: what the container was told.
        comfyui, folders: ComfyUI and its folders; None in an image without one.
        notes: what of the volume could not be shown to ComfyUI.
    """

    config: WorkerConfig
    comfyui: ComfyUIProcess | None = None
    folders: Folders | None = None
    notes: list[str] = field(default_factory=list)

    def do(self, request: Request, stop: StopSign, tell: Tell) -> Mapping[str, Any]:
        """Do a request and give its part of the answer.

        Raises:
            ComfyformError: it could not be done; the message is for the client.
            Stopped: the job was cancelled.
        """
        if request.action == "health":
            return debug.health(self.config, self.comfyui)
        with Http(wait=stop.wait) as http:
            if request.action in MODEL_ACTIONS or request.action == "debug":
                return self._look_after(request, http, stop, tell)
            return self._generate(request, http, stop, tell)

    def _look_after(self, request: Request, http: Http, stop: StopSign, tell: Tell) -> Mapping[str, Any]:
        """Do a model action, or tell everything."""
        from ops.sources import Sources
        from ops.store import FolderStore

        def on_progress(event: Mapping[str, Any]) -> None:
            stop.check()
            tell(event)

        settings = self.config.settings
        if request.action == "debug" and not self.config.volume.is_dir():
            return debug.debug(self.config, self.comfyui, self.folders, None, self.notes)
        store = FolderStore(models.volume(self.config.volume), Sources.from_settings(settings, http))
        if request.action == "debug":
            return debug.debug(self.config, self.comfyui, self.folders, store.inventory(), self.notes)
        return models.run(request.action, request.params, store, on_progress)

    def _generate(self, request: Request, http: Http, stop: StopSign, tell: Tell) -> Mapping[str, Any]:
        """Make pictures, speech or films."""
        if self.comfyui is None or self.folders is None:
            raise NotSupported(
                f"This worker has no ComfyUI, so it cannot do {request.action!r}.",
                hint="Send it to the generation endpoint (RUNPOD_ENDPOINT_ID); this one looks after models.",
            )
        raise NotSupported(f"{request.action} is not there yet.")
