"""What each action does, with what this worker has. Runs in a job's own thread."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.contract import MODEL_ACTIONS, RUNTIME_ACTIONS
from backend.errors import NotSupported
from backend.flow.http_driver import Http
from ops.sources.origins import Sources
from ops.stores.directory import FolderStore
from worker import debug, model_actions
from worker.cold_start import ColdStart
from worker.configuration import WorkerConfig
from worker.generate import Studio
from worker.handler import Tell
from worker.jobs.cancellation import StopSign
from worker.jobs.messages import Request
from worker.runtime.actions import RuntimeActions


@dataclass(frozen=True, slots=True)
class Actions:
    """All that a worker can do.

    Attributes:
        config: what the container was told.
        studio: ComfyUI and all around it; None in an image without one.
        start: how long this worker's start took.
        notes: what is not as it may be meant: of the configuration, or of the volume's folders.
    """

    config: WorkerConfig
    start: ColdStart
    studio: Studio | None = None
    notes: list[str] = field(default_factory=list)

    def do(self, request: Request, stop: StopSign, tell: Tell) -> Mapping[str, Any]:
        """Do a request and return its part of the answer.

        Raises:
            ComfyformError: it could not be done; the message is for the client.
            Stopped: the job was cancelled.
        """
        if request.action == "health":
            return debug.health(self.config, self.studio.comfyui if self.studio else None)
        if request.action == "debug":
            return self._debug(stop)
        if request.action in MODEL_ACTIONS:
            return self._look_after(request, stop, tell)
        if request.action in RUNTIME_ACTIONS:
            return self._look_after_runtime(request, stop, tell)
        if self.studio is None:
            raise NotSupported(
                " ".join([f"This worker has no ComfyUI, so it cannot do {request.action!r}.", *self.notes]),
                hint="Send it to the generation endpoint (RUNPOD_ENDPOINT_ID); this one looks after models.",
            )
        answer = self.studio.make(request, stop, tell)
        return self.start.first(answer, self.studio.comfyui.start_times)

    def _debug(self, stop: StopSign) -> Mapping[str, Any]:
        """Tell everything."""
        inventory = None
        if self.config.volume.is_dir():
            with Http(wait=stop.wait) as http:
                inventory = self._store(http).inventory()
        start = self.start.times() | (self.studio.comfyui.start_times if self.studio else {})
        return debug.debug(self.config, self.studio, inventory, self.notes) | {"start": start}

    def _look_after(self, request: Request, stop: StopSign, tell: Tell) -> Mapping[str, Any]:
        """Do a model action."""

        def on_progress(event: Mapping[str, Any]) -> None:
            stop.check()
            tell(event)

        with Http(wait=stop.wait) as http:
            return model_actions.run(request.action, request.params, self._store(http), on_progress)

    def _look_after_runtime(self, request: Request, stop: StopSign, tell: Tell) -> Mapping[str, Any]:
        """Do a runtime action."""

        def report(event: Mapping[str, Any]) -> None:
            stop.check()
            tell(event)

        volume = model_actions.volume(self.config.volume)
        return RuntimeActions(volume, self.config.environment).run(request.action, request.params, report)

    def _store(self, http: Http) -> FolderStore:
        """Return the volume as a store of models."""
        sources = Sources.from_settings(self.config.settings, http)
        volume = model_actions.volume(self.config.volume)
        return FolderStore(volume, sources, capacity_bytes=self.config.volume_bytes)
