"""Arguments of a verb: any value is taken or is an InvalidArgument, before anything is paid for."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend import Settings, get_backend
from backend.errors import InvalidArgument
from backend.validation.checks import path_problem
from backend.verbs.api_graph import load_graph
from backend.verbs.catalog import find, verbs
from backend.verbs.request import read
from tests.backend.runpod.test_job_outputs import FILE
from tests.support.small_server import Answer, Seen, serving

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 3}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "t"}},
}
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.sampled_from(
        ["", " ", "\0", "a\0b", "\ud83d", "/" + "a" * 5000, "a" * 300, "~nouser/x.wav", "..", "../x",
         "C:\\x.png", "C:/x.png", "file:///nowhere", "file://[", "data:", "data:,", "data:image/png;base64,*",
         "HTTPS://x/a.png", "https://", "https://[", "s3://b/k", "x.png [output]",
         "voices/odin.wav", "\\\\server\\x", "con"]
    ),
)  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.binary(max_size=5), st.just(10**400),
    st.just(math.inf), st.just({1}), st.just(Path("/nowhere")), st.lists(TEXTS, max_size=2),
    st.dictionaries(TEXTS, TEXTS, max_size=2), st.just(object()),
)  # fmt: skip
REQUIRED = {"prompt": "x", "text": "x", "description": "x", "graph": GRAPH}


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(st.sampled_from([(verb, name) for verb in verbs() for name in find(verb).params]), VALUES)
def test_any_value_of_any_argument_is_taken_or_refused_by_one_error(place, value):
    """What is taken can be written as JSON; what is refused is said shortly, in what can be printed."""
    verb, name = place
    given_ = {
        other: REQUIRED.get(other, "voices/odin.wav")
        for other, spec in find(verb).params.items()
        if spec.required
    }
    try:
        request = read(verb, {**given_, name: value})
    except InvalidArgument as error:
        message = str(error)
        message.encode()
        if len(message) > 1500:
            pytest.fail(message)
    else:
        json.dumps(
            {key: item for key, item in request.given.items() if not isinstance(item, Path)}, default=str
        )


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_a_name_that_is_taken_is_one_that_the_worker_takes(text):
    """The same rule on both sides: no job is paid for that the worker refuses."""
    try:
        request = read("tts", {"text": "x", "voice_reference": text})
    except InvalidArgument:
        return
    name = request["voice_reference"]
    if isinstance(name, str) and not name.lower().startswith(("http://", "https://", "data:", "asset:")):
        assert path_problem(name.removesuffix(" [output]")) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (r"C:\Users\me\odin.png", "not found on this machine"),
        ("C:/Users/me/odin.png", "not found on this machine"),
        ("file:///nowhere/odin.png", "not found on this machine"),
        ("file://server/odin.png", "not a file on this machine"),
        ("a\0b.png", "contains a NUL character"),
        ("a" * 300 + ".png", "cannot be read"),
        ("/" + "a" * 5000, "has 5001 characters; a path may have at most 4096"),
        ("~nouser/x.wav", "has an unknown user"),
        ("s3://bucket/key.png", "has the scheme s3"),
        ("https://x:0/a.png", "has no host"),
        ("data:image/png;base64,a*", "base64 is broken"),
        ("data:image/png,", "without data"),
        ("../secret.png", "not found on this machine"),
        ("\ud83d.png", "half a character (U+D83D)"),
    ],
)  # fmt: skip
def test_what_is_no_input_file_is_refused_before_a_request(value, message):
    with pytest.raises(InvalidArgument) as caught:
        read("lipsync", {"portrait_image": value, "audio": "voices/odin.wav"})

    assert message in str(caught.value)
    assert "portrait_image" in str(caught.value)


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ("file", {"name": "comfyform/5b8adf83e8c17b2f_o_d_ü.png"}),
        ("data", {"name": "_input.png"}),
        ("HTTPS://bucket.example/a.png?sig=1", {"url": "https://bucket.example/a.png?sig=1"}),
    ],
    ids=["file", "data", "capitals"],
)
def test_an_address_of_any_scheme_that_is_taken_travels_as_its_file(tmp_path, given_, sent):
    """file: of a file that exists, data:, and https in capitals."""
    content = b"\x89PNG\r\n\x1a\n odin"
    file = tmp_path / "o d ü.png"
    file.write_bytes(content)
    value = {"file": file.as_uri(), "data": f"data:image/png;base64,{base64.b64encode(content).decode()}"}
    bodies: list[Any] = []

    def plane(request: Seen) -> Answer:
        if request.method == "POST":
            bodies.append(json.loads(request.body))
            return Answer(200, b'{"id": "job-1", "status": "IN_QUEUE"}')
        return Answer(
            200, json.dumps({"id": "job-1", "status": "COMPLETED", "output": {"files": [FILE]}}).encode()
        )

    with serving(plane) as server:
        env = {
            "RUNPOD_API_KEY": "rpa_x",
            "RUNPOD_ENDPOINT_ID": "ep1",
            "RUNPOD_JOBS_URL": f"{server.url}/v2",
            "COMFYFORM_STATE_DIR": str(tmp_path / "state"),
        }
        with get_backend("runpod", settings=Settings.from_env(env)) as backend:
            backend.workflow(GRAPH, inputs={"odin.png": value.get(given_, given_)}).raise_for_failure()
            (entry,) = backend.flows.journal.entries()  # type: ignore[attr-defined]

    (travelled,) = bodies[0]["input"]["inputs"]
    assert all(text in str(travelled) for text in sent.values()) or given_ == "file"
    if "data" in travelled:
        assert base64.b64decode(travelled["data"]) == content
        assert travelled["name"].endswith(".png")
    assert "sig=1" not in json.dumps(entry.to_json())
    assert len(json.dumps(entry.to_json())) < 3000


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400, -(10**400), 2**64, "5", True])
@pytest.mark.parametrize("name", ["seed", "width", "steps", "cfg_scale"])
def test_a_number_that_no_node_takes_is_refused(name, value):
    with pytest.raises(InvalidArgument, match=name):
        read("portrait", {"prompt": "x", name: value})


@pytest.mark.parametrize("value", [5, b"x", "", "a\0b", "~nouser/x", "x" * 5000, "x" * 300, "\ud83d", ["a"]])
def test_an_output_path_that_is_none_is_refused(value):
    with pytest.raises(InvalidArgument, match="output_path"):
        read("portrait", {"prompt": "x", "output_path": value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": math.inf}, "node 1 (EmptyImage), input width is inf"),
        ({"width": b"x"}, "input width is a value of type bytes"),
        ({"width": {"a": [{1}]}}, "input width.a[0] is a value of type set"),
        ({"width": "\ud83d"}, "input width holds half a character"),
        ({"width": Path("x")}, "input width is a value of type PosixPath"),
        ({"width": 10**400}, "input width is an integer too large"),
    ],
)
def test_a_value_that_json_cannot_hold_is_named_with_node_and_input(change, message):
    graph = {**GRAPH, "1": {"class_type": "EmptyImage", "inputs": change}}

    with pytest.raises(InvalidArgument) as caught:
        read("workflow", {"graph": graph})

    assert message in str(caught.value)


def test_a_graph_that_holds_itself_is_refused():
    inputs: dict[str, Any] = {}
    inputs["self"] = inputs

    with pytest.raises(InvalidArgument, match="nested more than"):
        read("workflow", {"graph": {"1": {"class_type": "EmptyImage", "inputs": inputs}}})


def test_what_comfyui_does_not_read_is_not_sent():
    """Exporters write more, also what JSON cannot hold."""
    more = {"is_changed": [math.nan], "_meta": {"title": "x"}}
    graph = {node_id: {**node, **more} for node_id, node in GRAPH.items()}

    assert read("workflow", {"graph": graph})["graph"] == GRAPH


def test_ids_that_are_numbers_are_taken():
    """As a Python program writes them, in links too."""
    graph = {
        1: {"class_type": "EmptyImage", "inputs": GRAPH["1"]["inputs"]},
        3: {"class_type": "SaveImage", "inputs": {"images": [1, 0], "filename_prefix": "t"}},
    }

    assert read("workflow", {"graph": graph})["graph"] == GRAPH


@pytest.mark.parametrize(
    "wrap",
    [{"input": {"workflow": GRAPH}}, {"prompt": GRAPH, "client_id": "x"}, {"workflow": GRAPH, "images": []}],
)
def test_a_graph_in_the_body_of_another_client_is_unwrapped(wrap):
    """worker-comfyui's test_input.json, and what ComfyUI's own page posts."""
    assert read("workflow", {"graph": wrap})["graph"] == GRAPH


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_graph_is_read_as_powershell_writes_it(tmp_path, encoding):
    file = tmp_path / "graph.json"
    file.write_bytes(json.dumps(GRAPH).encode(encoding))

    assert load_graph(file) == GRAPH


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 300_000, b"\xff\xfe\x00", b"no"])
def test_a_file_that_is_no_json_is_refused(tmp_path, content):
    file = tmp_path / "graph.json"
    file.write_bytes(content)

    with pytest.raises(InvalidArgument, match=r"graph\.json"):
        load_graph(file)


@pytest.mark.parametrize("path", ["/nowhere.json", "a\0b", "~nouser/x.json", "x" * 300])
def test_a_file_that_cannot_be_read_is_refused(path):
    with pytest.raises(InvalidArgument, match=r"cannot be read|unknown on this machine"):
        load_graph(path)


@pytest.mark.parametrize("timeout_s", ["5", math.nan, math.inf, 0, -1, True, [1], 10**400])
def test_a_timeout_that_is_no_time_is_refused(timeout_s):
    with (
        get_backend("local", settings=Settings()) as backend,
        pytest.raises(InvalidArgument, match="timeout"),
    ):
        backend.portrait(prompt="x", timeout_s=timeout_s)


@pytest.mark.parametrize("place", [5, "", "a\0b", "x" * 300])
def test_a_result_is_resumed_to_a_path_only(place):
    with (
        get_backend("local", settings=Settings()) as backend,
        pytest.raises(InvalidArgument, match="output_path"),
    ):
        backend.resume("job-1", output_path=place)
