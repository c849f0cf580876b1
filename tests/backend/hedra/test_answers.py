"""What a Comfy API and Hedra answer: any JSON value at any place is read or is a typed error; ids are ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend import Backend, GenerationResult, Settings, get_backend
from backend.comfy_cloud.responses import (
    ended_well,
    link_address,
    output_address,
    progress_of,
    refused,
    status_of,
)
from backend.errors import ComfyformError, InvalidArgument, InvalidJson
from tests.support.small_server import Answer, Seen, serving

GRAPH = {"3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "t"}}}
KEYS = st.sampled_from(
    ["id", "job_id", "status", "outputs", "error", "message", "code", "url", "urls", "self", "name", "type",
     "metrics", "queue_ms", "progress", "current_node", "step", "steps", "details", "node_errors", "data",
     "cost", "balance", "asset_id", "content_type", "input_schema", "properties", "next_cursor", "modality"]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["", "job-1", "../x", "COMPLETED", "succeeded", "failed", "queued", "canceled", "expired", "image",
     "text", "http://[", "a.png", "\ud83d", "x" * 300, "video", "audio", "image/png"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=15,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)


@pytest.mark.slow
@given(OBJECTS)
def test_no_answer_breaks_a_reader(value):
    """Pure: a value, or one typed error."""
    readers: list[Callable[[], object]] = [
        lambda: status_of(value),
        lambda: progress_of(value, GRAPH),
        lambda: ended_well({"id": "job-1", **value}),
        lambda: output_address("http://x", value),
        lambda: link_address("http://x", str(value)),
        lambda: refused(value, GRAPH),
    ]
    for reader in readers:
        try:
            reader()
        except ComfyformError as error:
            str(error).encode("utf-8", "strict")


class Service:
    """A server that answers every request with what is set, the submission too."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        env = {
            "COMFY_API_URL": url,
            "HEDRA_API_URL": url,
            "HEDRA_API_KEY": "id:secret",
            "HEDRA_POLL_S": "0.01",
        }
        env |= {"COMFYFORM_STATE_DIR": str(folder / "state"), "COMFY_API_KEY": "k"}
        self.settings = Settings.from_env(env)
        self.says: Any = {}
        self.asked: list[str] = []

    def answer(self, request: Seen) -> Answer:
        self.asked.append(request.path)
        says = self.says(request) if callable(self.says) else self.says
        return Answer(200, json.dumps(says).encode())

    def run(self, backend: Backend, verb: str, **given_: Any) -> GenerationResult | ComfyformError:
        try:
            result: GenerationResult = getattr(backend, verb)(timeout_s=0.1, **given_)
        except ComfyformError as error:
            return error
        json.dumps(result.to_json(), allow_nan=False, ensure_ascii=False).encode()
        return result


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    holder: list[Service] = []
    with serving(lambda request: holder[0].answer(request)) as server:
        holder.append(Service(server.url, tmp_path_factory.mktemp("service")))
        yield holder[0]


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OBJECTS)
def test_any_answers_of_a_comfy_api_end_typed(service, value):
    service.says = {"id": "job-1", "status": "succeeded"} | value
    with get_backend("cloud", settings=service.settings) as backend:
        ended = service.run(backend, "workflow", graph=GRAPH, output_path=service.folder / "a.png")

    assert isinstance(ended, ComfyformError) or ended.success is (ended.exception is None)


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OBJECTS, st.sampled_from(["estimate", "/models/", "/status", "/jobs/"]))
def test_any_answers_of_hedra_end_typed(service, value, place):
    good = {
        "modality": "image", "input_schema": {"properties": {"prompt": {}}}, "cost": 0.1, "job_id": "job-1",
        "status": "COMPLETED", "outputs": [{"status": "COMPLETED", "url": "http://127.0.0.1:9/a.png"}],
    }  # fmt: skip
    service.says = lambda request: good | value if place in request.path else good
    with get_backend("hedra", settings=service.settings) as backend:
        ended = service.run(backend, "imagine", description="x")

    assert isinstance(ended, ComfyformError) or ended.success is (ended.exception is None)


@pytest.mark.parametrize("name", ["cloud", "hedra"])
@pytest.mark.parametrize("job_id", ["../models", "a/b", "x?y", "", "é"])
def test_what_is_not_an_id_is_asked_for_nowhere(service, name, job_id):
    service.asked.clear()
    with get_backend(name, settings=service.settings) as backend:
        for call in (backend.status, backend.resume):
            with pytest.raises(InvalidArgument, match="is not a job id"):
                call(job_id)

    assert service.asked == []


def test_a_link_that_is_no_address_is_refused():
    """Of any scheme that is not http or https."""
    for link in ("file:///etc/passwd", "http://[", "data:,x", "ftp://x/y"):
        with pytest.raises(InvalidJson):
            link_address("http://x", link)
    assert link_address("http://x/y", "/z?a=1") == "http://x/z?a=1"
