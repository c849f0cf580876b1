"""Before a job is paid for: would the workers' ComfyUI refuse its graph?

The graph is the one that the worker will build, checked against the node
definitions that a worker left on the volume. They may be older than the
endpoint and the models, so a problem leads to a refusal only when

- freshly read definitions confirm it,
- the endpoint was not changed since, has no other volume, and its image has a tag that names one build,
- and it is about what only a change of the endpoint can fix: a node or an
  input that is not there, a value of ComfyUI's own nodes; or it is a model
  file, which is not on the volume now.

Whatever cannot be found out speaks for the job.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from backend.comfyui.build_workflow import plan
from backend.comfyui.model_folders import HF_HUB, category_of, how_to_get, places_of
from backend.comfyui.node_definitions import DefinitionsCopy, NodeDefinitions
from backend.comfyui.validate import validate
from backend.contract import SHARED_INPUTS
from backend.errors import ComfyformError, JobFailed, NotSupported
from backend.files.volume_s3 import VolumeS3
from backend.flow import RETRY, Downloaded, Flow, Retry, Send, check, send, work
from backend.jobs.journal import state_folder
from backend.settings import Secret, Settings
from backend.verbs import transcripts
from backend.verbs.graph_structure import Problem
from backend.verbs.request import Request

ONCE: Final = Retry(attempts=1, jitter=RETRY.jitter)
"""Deadline of requests that must not delay a submission."""
ROLLOUT: Final = timedelta(hours=1)
"""A worker that started so long after a release is not of the one before: an image takes minutes to pull."""
_OF_THE_IMAGE: Final = frozenset(
    {
        "codec", "crop", "format", "sampler_name", "scheduler", "type", "upscale_method", "weight_dtype",
    }
)  # fmt: skip
"""Lists of ComfyUI's own nodes that depend on nothing but its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """The check, for one endpoint.

    Attributes:
        endpoint_id, volume_id: which endpoint, and the volume that it should have.
        definitions: what its workers know.
        volume: the volume over S3.
        rest: RunPod's control plane and its key.
    """

    endpoint_id: str
    volume_id: str
    definitions: DefinitionsCopy
    volume: VolumeS3
    rest: tuple[str, Secret]

    @classmethod
    def from_settings(cls, settings: Settings) -> "Preflight | None":
        """Make it where the settings name all it needs and it is on; else None."""
        volume = VolumeS3.from_settings(settings, retry=ONCE)
        endpoint_id, volume_id = settings.runpod_endpoint_id, settings.runpod_volume_id
        key = settings.runpod_api_key
        if not (settings.comfyform_preflight and volume and endpoint_id and volume_id and key):
            return None
        return cls(
            endpoint_id=endpoint_id,
            volume_id=volume_id,
            definitions=DefinitionsCopy(endpoint_id, volume, state_folder(settings) / "nodes"),
            volume=volume,
            rest=(settings.runpod_rest_url, key),
        )

    def check(self, request: Request) -> Flow[None]:
        """Let a request through, unless a worker would certainly refuse it.

        Raises:
            InvalidArgument: no graph can be made of it, or nothing tells what a voice recording says.
            JobFailed: it would be refused; the message names node, input and what is allowed, and
                ``output["missing_models"]`` the places on the volume of models that are not there.
        """
        yield from self._check_transcript(request)
        known = yield from self.definitions.get()
        if known is None or not (yield from doubts(request, known)):
            return
        known = yield from self.definitions.get(fresh=True)
        found = (yield from doubts(request, known)) if known else []
        if not known or not found or not (yield from self._describes_the_endpoint(known)):
            return
        refused, missing = [], []
        for problem in found:
            if places := _places(problem):
                if (yield from self._none_is_there(places)):
                    refused.append(problem)
                    missing.append(places[0])
            else:
                refused.append(problem)
        if refused:
            raise JobFailed(
                "The endpoint's ComfyUI would refuse the workflow, so nothing was submitted: "
                f"{'; '.join(map(str, refused))}.",
                hint=how_to_get(missing) if missing else "COMFYFORM_PREFLIGHT=off submits it anyway.",
                output={"missing_models": missing},
            )

    def _check_transcript(self, request: Request) -> Flow[None]:
        """Refuse to clone a voice when the words of its recording are unknown and certainly stay so.

        Raises:
            InvalidArgument: they are neither given nor in a file, and the workers have no recognizer.
        """
        if not transcripts.is_missing(request):
            return
        recording = request["voice_reference"]
        if (yield from work(lambda: transcripts.read_beside(recording))):
            return
        places = [f"{HF_HUB}/{transcripts.RECOGNIZER_REF}"]
        if isinstance(recording, str) and "://" not in recording:
            if not recording.startswith(tuple(f"{folder}/" for folder in SHARED_INPUTS)):
                return  # the recording itself is missing, which the worker says
            places.append(transcripts.file_name(recording))
        if (yield from self._none_is_there(places)) and (yield from self._is_offline()):
            raise transcripts.missing(request.verb, recording)

    def _is_offline(self) -> Flow[bool]:
        """Tell whether the endpoint's workers certainly load models from this volume's cache only."""
        try:
            endpoint = yield from self._endpoint()
            environment = dict(endpoint["env"])
        except (ComfyformError, KeyError, TypeError, ValueError):
            return False
        return (
            endpoint.get("networkVolumes") == [self.volume_id]
            and not environment.keys() & {"HF_HOME", "HF_HUB_CACHE", "RUNPOD_VOLUME_PATH"}
            and not transcripts.is_online(environment)
        )

    def _endpoint(self) -> Flow[Mapping[str, Any]]:
        url, key = self.rest
        step = Send("GET", f"{url}/serverless/{self.endpoint_id}", key=key, timeout_s=10.0)
        return check((yield from send(step)), "Look at the endpoint").object()

    def _describes_the_endpoint(self, known: NodeDefinitions) -> Flow[bool]:
        """Tell whether the definitions are certainly those of the workers that would take the job.

        Source: REST v2, listEndpointReleases: a change of the container is a release; its time is known, and
            workers of the one before may start for a while after it.
        """
        url, key = self.rest
        try:
            endpoint = yield from self._endpoint()
            listed = yield from send(
                Send("GET", f"{url}/serverless/{self.endpoint_id}/releases", key=key, timeout_s=10.0)
            )
            releases = check(listed, "Look at its releases").object().get("releases") or []
            changes = [datetime.fromisoformat(item["createdAt"]) for item in releases if item.get("diff")]
            settled = not changes or known.started_at > max(changes) + ROLLOUT
        except (ComfyformError, KeyError, TypeError, ValueError):
            return False
        pinned = is_pinned(str(endpoint.get("image") or ""))
        return settled and pinned and endpoint.get("networkVolumes") == [self.volume_id]

    def _none_is_there(self, places: list[str]) -> Flow[bool]:
        """Tell whether a model file is certainly not on the volume: neither itself nor a record of it."""
        try:
            for place in places:
                for path in (place, f".comfyform/records/{place}.json"):
                    if (yield from self.volume.size_of(path)) is not None:
                        return False
        except ComfyformError:
            return False
        return True


def is_pinned(image: str) -> bool:
    """Tell whether an image's name always means the same build: by a digest, or by a tag of its own."""
    tag = image.rpartition("/")[2].partition(":")[2]
    return "@sha256:" in image or tag not in ("", "latest")


def doubts(request: Request, known: NodeDefinitions) -> Flow[list[Problem]]:
    """Find what the definitions say against a request, as far as only the endpoint or a model can fix it."""
    planned = yield from plan(DefinitionsOnly(known.object_info), _on_paper(request))
    found = validate(planned.graph, known.object_info)
    if known.failed_imports:
        # One of these may have the node; only the worker's ComfyUI knows.
        found = [problem for problem in found if problem.kind != "node"]
    return [
        problem
        for problem in found
        if _is_of_the_image(problem, known.object_info)
        # A worker chooses from the files that it has when the job is there.
        or (_places(problem) and problem.input not in planned.chosen_inputs)
    ]


def _is_of_the_image(problem: Problem, object_info: Mapping[str, Any]) -> bool:
    """Tell whether a problem stays as it is while the endpoint does: no model and no file can fix it."""
    if problem.kind in ("structure", "node", "missing"):
        return True
    # A node of a pack may check its inputs in its own way, which its definition does not show.
    module = str(object_info.get(problem.class_type, {}).get("python_module", ""))
    if module != "nodes" and not module.startswith("comfy_extras."):
        return False
    return problem.kind != "choice" or problem.input in _OF_THE_IMAGE


def _places(problem: Problem) -> list[str]:
    """Return where on the volume the model file may lie that a node does not find; [] if unknown."""
    category = category_of(problem.class_type, problem.input)
    if problem.kind != "choice" or category is None or not isinstance(problem.received, str):
        return []
    plain = problem.received and not problem.received.startswith("/") and ".." not in problem.received
    return places_of(category, problem.received) if plain else []


def _on_paper(request: Request) -> Request:
    """Return a request with names instead of files: whether they are there is not what is asked."""
    names = {name: "input" for name in request.given if request.params[name].what == "input"}
    wishes: dict[str, Any] = {name: {} for name in request.given if request.params[name].what == "inputs"}
    return replace(request, given={**request.given, **names, **wishes})


@dataclass(frozen=True, slots=True)
class DefinitionsOnly:
    """A ComfyUI of which only the definitions are known, for `backend.comfyui.build_workflow.plan`."""

    definitions: Mapping[str, Any]
    url: str = ""
    origin: str = ""

    def object_info(self, class_type: str = "") -> Flow[Mapping[str, Any]]:
        """Look the definitions up."""
        yield from ()
        return {class_type: self.definitions.get(class_type, {})} if class_type else self.definitions

    def metadata(self, folder: str, filename: str) -> Flow[Mapping[str, str]]:  # noqa: ARG002
        """Answer that no metadata is known."""
        yield from ()
        return {}

    def read(self, name: str) -> Flow[bytes | None]:  # noqa: ARG002
        """Answer that the file does not exist."""
        yield from ()
        return None

    def fetch(self, name: str, to: Path) -> Flow[Downloaded]:
        """Refuse: no files are available here."""
        yield from ()
        raise NotSupported(f"{name} is not here to be put into {to}.")

    def has(self, name: str, size_bytes: int) -> Flow[bool]:  # noqa: ARG002
        """Answer that the file was uploaded already, so that nothing is sent."""
        yield from ()
        return True

    def upload(self, source: Path, name: str, *, subfolder: str = "") -> Flow[str]:
        """Refuse: nothing is sent."""
        yield from ()
        raise NotSupported(f"{source} is not sent as {subfolder}/{name}.")
