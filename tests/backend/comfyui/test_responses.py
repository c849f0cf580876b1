"""What a ComfyUI answers, forks and proxies too: any JSON value at any place is read or is a typed error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend import Backend, GenerationResult, Settings, get_backend
from backend.comfyui.api import ComfyUI
from backend.comfyui.backend import seed_in
from backend.comfyui.refusals import refusal
from backend.comfyui.responses import failure, outputs, queued_runs
from backend.comfyui.run import wait
from backend.errors import ComfyformError, InvalidArgument, JobError, JobFailed, TransferError
from backend.flow import Reply, Send, Sleep
from tests.support.deadlines import HANG_S
from tests.support.small_server import Answer, Seen, serving

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 60
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 3}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "t"}},
}
KEYS = st.sampled_from(
    ["outputs", "images", "filename", "type", "subfolder", "text", "status", "status_str", "messages", "9",
     "error", "message", "details", "node_errors", "errors", "extra_info", "input_name", "class_type",
     "received_value", "input_config", "prompt", "prompt_id", "number", "seed", "inputs", "sampler"]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["", "a.png", "output", "temp", "error", "success", "execution_error", "execution_interrupted", "\0",
     "..", "value_not_in_list", "required_input_missing", "a\nb", "x" * 400, "x.safetensors", "\ud83d"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


def test_previews_are_results_only_where_nothing_was_saved():
    """A preview beside a saved picture is left out; a graph that only previews gives its previews."""
    preview = {"images": [{"filename": "p.png", "subfolder": "", "type": "temp"}]}
    saved = {"images": [{"filename": "s.png", "subfolder": "", "type": "output"}]}

    both = outputs({"outputs": {"7": preview, "9": saved}})
    only = outputs({"outputs": {"7": preview}})

    assert [output.filename for output in both] == ["s.png"]
    assert [(output.filename, output.folder) for output in only] == [("p.png", "temp")]


@pytest.mark.slow
@given(VALUES)
def test_no_value_breaks_a_reader(value):
    """History entries, queues and refusals, pure."""
    entry = value if isinstance(value, dict) else {"outputs": value, "status": value, "prompt": value}
    for shape in (entry, {"outputs": {"9": value}}, {"outputs": {"9": {"images": value}}}):
        assert all(isinstance(output.filename, str) for output in outputs(shape))
    seed_in(entry)
    seed_in({"prompt": [1, "x", value]})
    queued_runs(value)
    for status in (value, {"messages": value}, {"messages": [["execution_error", value]]}):
        assert isinstance(failure({"status": status}, "p"), JobError)
    problem = {"type": "value_not_in_list", "extra_info": value}
    for node in (value, {"3": value}, {"3": {"errors": [value, problem]}}):
        assert str(refusal({"node_errors": node}, GRAPH)).startswith("ComfyUI refuses the workflow: ")
    for body in (value, {"error": value}):
        assert str(refusal(body, GRAPH)).startswith("ComfyUI refuses the workflow: ")


class Server:
    """A ComfyUI of a few lines, whose answers are set."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.backend: Backend = get_backend(
            "local",
            settings=Settings.from_env({"COMFYUI_URL": url, "COMFYFORM_STATE_DIR": str(folder / "state")}),
        )
        self.prompt_id = ""
        self.history: Any = {}
        self.queue: Any = {}
        self.prompt: Answer | None = None
        self.view = Answer(200, PNG)
        self.late = 0

    def answer(self, request: Seen) -> Answer:
        path = urlsplit(request.path).path
        if path == "/prompt":
            self.prompt_id = json.loads(request.body)["prompt_id"]
            return self.prompt or Answer(200, json.dumps({"prompt_id": self.prompt_id}).encode())
        if path.startswith("/history"):
            self.late -= 1
            entry = {} if self.late >= 0 else {self.prompt_id: self.history}
            return Answer(200, json.dumps(entry).encode())
        if path == "/queue":
            return Answer(200, json.dumps(self.queue).encode())
        if path == "/view":
            name = parse_qs(urlsplit(request.path).query).get("subfolder", [""])[0]
            return Answer(
                self.view.status, self.view.body and self.view.body + name.encode(), self.view.headers
            )
        return Answer(200 if path in ("/interrupt", "/free") else 404)

    def run(self, **answers: Any) -> GenerationResult:
        self.prompt, self.view, self.queue, self.late = None, Answer(200, PNG), {}, 0
        vars(self).update(answers)
        place = self.folder / "out"
        place.mkdir(exist_ok=True)
        return self.backend.workflow(GRAPH, output_path=place, timeout_s=HANG_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    holder: list[Server] = []
    with serving(lambda request: holder[0].answer(request)) as small:
        holder.append(Server(small.url, tmp_path_factory.mktemp("comfyui")))
        with holder[0].backend:
            yield holder[0]


def ended(*files: dict[str, Any], **more: Any) -> dict[str, Any]:
    status = {"status_str": "success", "completed": True, "messages": []}
    return {"status": status, "prompt": [1, "x", GRAPH, {}, []], "outputs": {"9": {"images": files}}} | more


def file(name: str, kind: str = "output", subfolder: str = "") -> dict[str, Any]:
    return {"filename": name, "subfolder": subfolder, "type": kind}


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_history_ends_in_files_or_in_a_typed_error(server, history):
    result = server.run(history=history)

    assert result.success or isinstance(result.exception, ComfyformError)
    json.dumps(result.to_json(), allow_nan=False, ensure_ascii=False).encode()
    assert {path.name for path in server.folder.iterdir()} <= {"out", "state"}


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, st.sampled_from([200, 400, 500]))
def test_any_answer_to_prompt_is_a_run_or_a_typed_error(server, body, status):
    """200 with an answer of another form: the run has the id that was chosen here."""
    result = server.run(history=ended(file("a.png")), prompt=Answer(status, json.dumps(body).encode()))

    assert result.success or isinstance(result.exception, ComfyformError)


@pytest.mark.slow
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, VALUES)
def test_any_queue_is_read(server, running, pending):
    """The run is found in the history all the same."""
    queue = {"queue_running": running, "queue_pending": pending}

    assert server.run(history=ended(file("a.png")), queue=queue, late=2).success


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"images": [file("a.png")]}, ["a.png"]),
        ([file("a.png")], ["a.png"]),
        ({"images": file("a.png")}, ["a.png"]),
        ({"images": [file("a.mp4")], "gifs": [file("a.mp4")]}, ["a.mp4"]),
        ({"text": "hello"}, ["text_9.txt"]),
        ({"string": ["a", "b"]}, ["text_9.txt", "text_9_2.txt"]),
        ({"images": [file("a.png", subfolder="1"), file("a-2.png"), file("a.png", subfolder="2")]},
         ["a.png", "a-2.png", "a-3.png"]),
        ({"images": [file("x" * 400 + ".png")]}, ["x" * 176 + ".png"]),
        ({"images": [file("a\0b.png"), file("c\nd.png")]}, ["a_b.png", "c_d.png"]),
    ],
)  # fmt: skip
def test_each_result_is_a_file_of_its_own(server, values, names):
    """Whatever the node calls it, and in whichever shape it says so."""
    result = server.run(history=ended(outputs={"9": values})).raise_for_failure()
    places = [place for entry in result.files if (place := entry.local_path)]

    assert [place.name for place in places] == names
    assert all(place.is_file() for place in places)


def test_a_run_that_names_no_file_says_what_it_gave(server):
    """Node, keys and types."""
    result = server.run(history=ended(outputs={"9": {"model_file": ["a.glb"]}, "10": "x"}))

    assert "node 9: an object with model_file (list of 1); node 10: text of 1 characters" in str(result.error)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (
            Answer(200, b"<html>Log in</html>", {"content-type": "text/html; charset=utf-8"}),
            "a web page instead",
        ),
        (Answer(200, b""), "arrived empty"),
    ],
)
def test_what_is_no_picture_is_not_taken_for_one(server, view, message):
    result = server.run(history=ended(file("b.png")), view=view)

    assert isinstance(result.exception, TransferError)
    assert message in str(result.error)
    assert not (server.folder / "out" / "b.png").exists()


def test_a_file_that_is_gone_is_not_offered_again(server):
    """ComfyUI does not have it any more."""
    result = server.run(history=ended(file("c.png")), view=Answer(404))

    assert "jobs.wait" not in str(result.error)


@pytest.mark.parametrize("name", ["../queue", "a/b", "x?y", "", "x\n"])
def test_a_run_is_asked_for_by_an_id_only(server, name):
    with pytest.raises(InvalidArgument, match="is not a job id"):
        server.backend.status(name)


class SlowComfyUI:
    """Answers by hand: the run leaves the queue between the answers of history and queue."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.now = list(answers), 0.0

    def run(self) -> Any:
        flow = wait(ComfyUI("http://x"), "p", deadline_s=600.0, clock=lambda: self.now)
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as stop:
                return stop.value
            answer = None
            if isinstance(step, Sleep):
                self.now += step.seconds
            elif isinstance(step, Send):
                self.now += 8.0  # more than a hundred runs at once
                body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                answer = Reply(200, {}, json.dumps(body).encode(), step.url)


def test_a_run_that_ends_between_two_looks_is_found():
    """The history is asked last; it knows every run that the queue no longer has."""
    waits = {"queue_running": [], "queue_pending": [[1, "p", {}, {}, []]]}
    empty: dict[str, Any] = {"queue_running": [], "queue_pending": []}

    assert SlowComfyUI({}, waits, {}, empty, {"p": ended()}).run()["outputs"]


def test_a_run_that_no_look_finds_is_gone():
    with pytest.raises(JobFailed, match="no longer knows the run p"):
        SlowComfyUI({}).run()
