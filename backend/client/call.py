"""What the two faces of a backend share: all but how they wait.

A face checks the arguments, drives a flow and turns a failed run into a result;
wrong arguments and missing settings raise at once. The faces themselves are
`backend.client.sync_client` and `backend.client.async_client`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from backend.client.protocol import BackendFlows, resumable
from backend.client.talk import perform, submit
from backend.errors import ComfyformError, ConfigError, InvalidArgument, NotSupported
from backend.files.output_paths import check_writable
from backend.flow import Flow
from backend.validation.printable import quoted
from backend.verbs.request import Request, read
from backend.verbs.result import GenerationResult

DEADLINE_S: Final = 900.0
LONGEST_S: Final = 366 * 86_400.0


class Face:
    """A backend, without waiting."""

    def __init__(self, flows: BackendFlows, *, deadline_s: float = DEADLINE_S) -> None:
        self.flows = flows
        self.deadline_s = deadline_s

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def name(self) -> str:
        """The backend's name: "local", "runpod", …"""
        return self.flows.name

    def _deadline(self, timeout_s: float | None) -> float:
        """Return the seconds that a call may take.

        Raises:
            InvalidArgument: in none can anything be done.
        """
        if timeout_s is None:
            return self.deadline_s
        is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
        if not is_number or not 0 < timeout_s <= LONGEST_S:
            shown = f"{timeout_s:g}" if isinstance(timeout_s, float) else quoted(timeout_s)
            raise InvalidArgument(f"timeout_s must be a positive number of seconds, got {shown}.")
        return timeout_s

    def _generate(
        self, verb: str, params: Mapping[str, Any], timeout_s: float | None
    ) -> Flow[GenerationResult]:
        request = _request(verb, params)
        deadline_s = self._deadline(timeout_s)
        return _settled(perform(self.flows, request, deadline_s=deadline_s), self.name)

    def _submit(self, verb: str, params: Mapping[str, Any], timeout_s: float | None) -> Flow[str]:
        flows = resumable(self.flows)
        deadline_s = self._deadline(timeout_s)
        request = _request(verb, params)
        return submit(flows, request, deadline_s=deadline_s)

    def _resume(
        self, job_id: str, output_path: str | Path | None, timeout_s: float | None
    ) -> Flow[GenerationResult]:
        place = None
        if output_path is not None:
            from backend.verbs.input_files import output_place

            try:
                place = output_place(output_path)
            except ValueError as error:
                raise InvalidArgument(f"output_path {error}.") from None
            check_writable(place)
        deadline_s = self._deadline(timeout_s)
        return _settled(
            resumable(self.flows).resume(job_id, deadline_s=deadline_s, output_path=place), self.name
        )


def _request(verb: str, params: Mapping[str, Any]) -> Request:
    """Check the arguments. A workflow may be a file here; never in a job, which comes from elsewhere."""
    if verb == "workflow":
        params = _read_workflow(params)
    request = read(verb, params)
    if request.output_path is not None:
        check_writable(request.output_path)
    return request


def _read_workflow(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the workflow where it is a file, and add the images that lie beside it to the inputs."""
    from backend.verbs.api_graph import attached_images, load_graph

    graph, inputs = params.get("graph"), params.get("inputs")
    if isinstance(graph, str | os.PathLike):
        graph = load_graph(graph)
    images = attached_images(graph)
    if images and (inputs is None or isinstance(inputs, Mapping)):
        inputs = {**images, **(inputs or {})}
    return {**params, "graph": graph, "inputs": inputs}


def _settled(flow: Flow[GenerationResult], backend: str) -> Flow[GenerationResult]:
    """Turn a failure of the run into a result. What the caller must fix is raised."""
    try:
        return (yield from flow)
    except (ConfigError, NotSupported):
        raise
    except ComfyformError as error:
        return GenerationResult(
            success=False,
            backend=backend,
            error=str(error),
            exception=error,
            job_id=getattr(error, "job_id", None),
        )
