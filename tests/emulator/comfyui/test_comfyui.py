"""The ComfyUI stand-in over its own HTTP and websocket, against what was recorded from real servers."""

import contextlib
import io
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.comfyui_program import (
    ComfyUI,
    Graph,
    kinds,
    running_comfyui,
    safetensors,
    slow,
    txt2img,
    until_the_end,
)
from tests.support.deadlines import HANG_S


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("comfyui"), "--preview-method", "auto") as program:
        program.add_model("checkpoints/tiny.safetensors")
        yield program


@pytest.fixture
def comfyui(program: ComfyUI) -> ComfyUI:
    """Return the one stand-in, with nothing cached and all knobs at rest."""
    program.http.post("/free", json={"free_memory": True})
    program.emulate(history_delay_s=0.005, step_s=0.0, oom_in="", raise_in="", hang_in="", missing_nodes="")
    return program


@pytest.mark.slow
def test_a_prompt_becomes_a_png_of_the_right_size_with_the_prompt_inside(comfyui):
    """txt2img gives a real PNG, of the latent's size, with the graph in its text chunk as ComfyUI does."""
    graph = txt2img(size=(96, 128))

    _, entry = comfyui.run(graph)
    shown = entry["outputs"]["9"]["images"][0]
    image = Image.open(io.BytesIO(comfyui.http.get("/view", params=shown).content))

    assert (shown["filename"], shown["type"]) == ("fox_00001_.png", "output")
    assert (image.format, image.size) == ("PNG", (96, 128))
    assert json.loads(image.info["prompt"]) == graph


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(comfyui):
    """Pictures depend on the prompt and the seed alone."""
    pictures = []
    for seed in (1, 1, 2):
        comfyui.http.post("/free", json={"free_memory": True})
        _, entry = comfyui.run(txt2img(seed))
        shown = entry["outputs"]["9"]["images"][0]
        pictures.append(Image.open(io.BytesIO(comfyui.http.get("/view", params=shown).content)).tobytes())

    assert pictures[0] == pictures[1] != pictures[2]


def test_events_come_in_the_recorded_order(comfyui):
    """One node after the other, each between two progress states, the end marked by executing null."""
    heard, _ = comfyui.run(slow())

    assert kinds(heard) == [
        *("status", "status", "status", "execution_start", "execution_cached"),
        *("progress_state", "executing", "progress_state"),
        *("progress_state", "executing", *("progress_state", "progress") * 3, "progress_state"),
        *("progress_state", "executing", "executed", "progress_state"),
        *("execution_success", "status", "executing"),
    ]


@pytest.mark.parametrize(
    ("hello", "around_a_step"),
    [
        (None, ["progress_state", "progress", "binary 1"]),
        (
            {"type": "feature_flags", "data": {"supports_preview_metadata": True}},
            ["progress_state", "binary 4", "progress"],
        ),
    ],
)
def test_previews_carry_metadata_for_those_who_ask_first(comfyui, hello, around_a_step):
    """Previews are type 1 after `progress`, or type 4 before it once the client has sent its flags."""
    heard, _ = comfyui.run(slow(steps=1, delay=0.02, preview=True), hello)
    order = kinds(heard)
    at = order.index("progress")

    assert order[at - 1 : at + 2] == around_a_step or order[at - 2 : at + 1] == around_a_step


def test_the_second_identical_prompt_is_cached(comfyui):
    """Cached nodes are not run again, and the output node still says its file."""
    _, first = comfyui.run(slow())

    heard, entry = comfyui.run(slow())

    assert kinds(heard)[5:] == ["executed", "progress_state", "execution_success", "status", "executing"]
    assert heard[4]["data"]["nodes"] == ["1", "2", "3"]
    assert entry["outputs"] == first["outputs"]


@pytest.mark.parametrize(
    ("kind", "exception", "ending"),
    [
        ("value_error", "ValueError", "deliberate failure from the emulator's node\n"),
        ("oom", "torch.OutOfMemoryError", "set the batch_size to a large number."),
    ],
)
def test_a_node_that_raises_ends_the_prompt(comfyui, kind, exception, ending):
    """execution_error names the node and the exception; history keeps it and is not completed."""
    graph = slow()
    graph["2"] = {"class_type": "EmulatorRaise", "inputs": {"image": ["1", 0], "kind": kind}}

    heard, entry = comfyui.run(graph)
    name, error = entry["status"]["messages"][-1]

    assert kinds(heard)[-3:] == ["execution_error", "status", "executing"]
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    assert (name, error["node_id"], error["node_type"]) == ("execution_error", "2", "EmulatorRaise")
    assert (error["exception_type"], error["exception_message"].endswith(ending)) == (exception, True)


def test_a_damaged_checkpoint_fails_as_safetensors_would(comfyui):
    """A file that is no safetensors file is found when it is loaded, in the library's words."""
    comfyui.add_model("checkpoints/corrupt.safetensors", bytes([255] * 8) + bytes(20))

    _, entry = comfyui.run(txt2img(checkpoint="corrupt.safetensors"))
    error = entry["status"]["messages"][-1][1]

    assert error["exception_type"] == "safetensors._safetensors_rust.SafetensorError"
    assert error["exception_message"] == "Error while deserializing header: header too large\n"


def test_interrupt_stops_only_the_prompt_that_it_names(comfyui):
    """An interrupt for another prompt is a silent no-op; ours ends in execution_interrupted."""
    client_id = uuid.uuid4().hex
    with comfyui.socket(client_id) as socket:
        reply = comfyui.http.post("/prompt", json={"prompt": slow(1000, 0.05), "client_id": client_id})
        prompt_id = reply.json()["prompt_id"]
        while json.loads(socket.recv(timeout=HANG_S))["type"] != "progress":
            pass
        comfyui.http.post("/interrupt", json={"prompt_id": str(uuid.uuid4())})
        assert comfyui.http.get("/queue").json()["queue_running"][0][1] == prompt_id
        comfyui.http.post("/interrupt", json={"prompt_id": prompt_id})
        heard = list(until_the_end(socket))
    status = comfyui.http.get(f"/history/{prompt_id}").json()[prompt_id]["status"]

    assert kinds(heard)[-3:] == ["execution_interrupted", "status", "executing"]
    assert (status["status_str"], status["messages"][-1][0]) == ("error", "execution_interrupted")
    assert comfyui.http.get(f"/api/jobs/{prompt_id}").json()["status"] == "cancelled"


def test_history_is_late_at_execution_success(comfyui):
    """As measured on real servers, history may still be empty then, and is there at executing null."""
    comfyui.emulate(history_delay_s=HANG_S)
    client_id = uuid.uuid4().hex
    with comfyui.socket(client_id) as socket:
        reply = comfyui.http.post("/prompt", json={"prompt": slow(), "client_id": client_id})
        prompt_id = reply.json()["prompt_id"]
        while json.loads(socket.recv(timeout=HANG_S))["type"] != "execution_success":
            pass
        at_success = comfyui.http.get(f"/history/{prompt_id}").json()
        comfyui.emulate(history_delay_s=0.005)
        list(until_the_end(socket))
        at_the_end = comfyui.http.get(f"/history/{prompt_id}").json()

    assert at_success == {}
    assert list(at_the_end) == [prompt_id]


def test_a_second_socket_under_the_same_id_goes_silent_when_the_first_closes(comfyui):
    """The real server's reconnect bug: clients must not trust a socket's silence."""
    client_id = uuid.uuid4().hex
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(comfyui.socket(client_id))
        first.recv(timeout=HANG_S)
        second = stack.enter_context(comfyui.socket(client_id))
        second.recv(timeout=HANG_S)
        first.close()
        comfyui.http.post("/prompt", json={"prompt": slow(), "client_id": client_id})
        while comfyui.http.get("/prompt").json()["exec_info"]["queue_remaining"]:
            pass

        with pytest.raises(TimeoutError):
            second.recv(timeout=0.05)


def test_a_prompt_without_a_client_id_tells_everybody_its_progress_only(comfyui):
    """A bystander hears progress but no start, no end: so clients must filter by prompt id."""
    with comfyui.socket(uuid.uuid4().hex) as bystander:
        comfyui.http.post("/prompt", json={"prompt": slow()})
        heard = [json.loads(bystander.recv(timeout=HANG_S)) for _ in range(10)]

    assert {one["type"] for one in heard} == {"status", "progress_state", "progress"}


def test_uploads_keep_what_is_there(comfyui):
    """Same name and bytes: the same file; other bytes: a new name; overwrite: replaced; unicode kept."""

    def upload(name: str, content: bytes, **fields: str) -> Any:
        files = {"image": (name, content, "image/png")}
        return comfyui.http.post("/upload/image", files=files, data=fields).json()

    answers = [
        upload("é 图.png", b"one"),
        upload("é 图.png", b"one"),
        upload("é 图.png", b"two"),
        upload("é 图.png", b"three", overwrite="true"),
        upload("x.wav", b"four", subfolder="jobs/abc"),
    ]

    assert [(answer["name"], answer["subfolder"]) for answer in answers] == [
        ("é 图.png", ""),
        ("é 图.png", ""),
        ("é 图 (1).png", ""),
        ("é 图.png", ""),
        ("x.wav", "jobs/abc"),
    ]
    assert (comfyui.folder / "input/é 图.png").read_bytes() == b"three"
    assert (comfyui.folder / "input/jobs/abc/x.wav").read_bytes() == b"four"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/view?filename=../x.png", 400),
        ("GET", "/view?filename=a.png&type=bogus", 400),
        ("GET", "/view?filename=a.png&subfolder=../../..", 403),
        ("GET", "/view?filename=nope.png", 404),
        ("GET", "/models/no_such_folder", 404),
        ("GET", "/history?max_items=abc", 500),
        ("POST", "/prompt", 500),
        ("POST", "/free", 500),
        ("POST", "/queue", 500),
        ("POST", "/upload/image", 400),
        ("GET", "/no_such_route", 404),
    ],
)
def test_bad_requests_get_the_recorded_status(comfyui, method, path, status):
    """Where ComfyUI's own code raises, it answers 500 in plain text; the rest have bare status codes."""
    assert comfyui.http.request(method, path).status_code == status


def test_pages_of_other_origins_are_turned_away(comfyui):
    """A browser's page of another origin gets a bare 403."""
    reply = comfyui.http.post("/prompt", json={}, headers={"Origin": "http://evil.example"})

    assert (reply.status_code, reply.content) == (403, b"")


def test_the_one_that_the_emulator_mounts_forgets_everything_on_reset(emu):
    """Under the emulator it has a path prefix, its models beside it, and is new after a reset."""
    url = emu.url("comfyui")
    model = emu.root / "comfyui/models/checkpoints/tiny.safetensors"
    model.parent.mkdir()
    model.write_bytes(safetensors())
    with httpx.Client(base_url=url) as http:
        http.patch("/_emulator/knobs", json={"hang_in": "KSampler"})
        prompt_id = http.post("/prompt", json={"prompt": txt2img()}).json()["prompt_id"]
        running = http.get("/queue").json()["queue_running"][0][1]
        emu.reset()

        assert running == prompt_id
        assert http.get("/queue").json() == {"queue_running": [], "queue_pending": []}
        assert http.get("/models/checkpoints").json() == []
        assert http.get("/_emulator/knobs").json()["hang_in"] == ""
        assert http.get("/history").json() == {}


def test_the_one_that_the_emulator_mounts_can_not_be_told_to_die(emu):
    """It shares the emulator's process, so die_in is refused; other knobs are turned on either address."""
    refused = httpx.patch(emu.url("comfyui") + "/_emulator/knobs", json={"die_in": "KSampler"})
    turned = emu.control("PATCH", "/comfyui/knobs", {"step_s": 0.5})

    assert refused.status_code == 400
    assert turned["step_s"] == 0.5


def test_pictures_are_served_in_parts_and_in_other_forms(comfyui):
    """/view takes ranges and HEAD, and re-encodes for previews."""
    _, entry = comfyui.run(txt2img())
    (shown,) = entry["outputs"]["9"]["images"]
    get = comfyui.http.get
    part = get("/view", params=shown, headers={"Range": "bytes=1-3"})
    head = comfyui.http.head("/view", params=shown)
    forms = [
        Image.open(io.BytesIO(get("/view", params=shown | more).content)).format
        for more in ({}, {"preview": "webp;50"}, {"preview": "jpeg;80"}, {"channel": "rgb"})
    ]

    assert (part.status_code, part.content) == (206, b"PNG")
    assert (head.status_code, int(head.headers["content-length"]) > 100) == (200, True)
    assert head.headers["content-disposition"] == f'filename="{shown["filename"]}"'
    assert forms == ["PNG", "WEBP", "JPEG", "PNG"]


def test_inputs_may_lie_in_any_folder(comfyui):
    """A name may have a subfolder or end in [output] or [temp], though no list shows it."""
    _, entry = comfyui.run(txt2img())
    (shown,) = entry["outputs"]["9"]["images"]
    graph: Graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": f"{shown['filename']} [output]"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    _, entry = comfyui.run(graph)
    graph["1"]["inputs"]["image"] = f"{shown['filename']} [temp]"
    refused = comfyui.http.post("/prompt", json={"prompt": graph})

    assert entry["outputs"]["2"]["images"][0]["type"] == "temp"
    error = refused.json()["node_errors"]["1"]["errors"][0]
    assert error["details"] == f"image - Invalid image file: {shown['filename']} [temp]"


def test_jobs_are_listed_with_their_first_output(comfyui):
    """/api/jobs covers what is finished, by page and by status; bad values are named."""
    _, entry = comfyui.run(txt2img(seed=99))
    get = comfyui.http.get
    page = get("/api/jobs?limit=1").json()
    (job,) = page["jobs"]

    assert (job["id"], job["status"]) == (entry["prompt"][1], "completed")
    assert job["preview_output"] == {
        **entry["outputs"]["9"]["images"][0],
        "nodeId": "9",
        "mediaType": "images",
    }
    assert page["pagination"]["has_more"] is True
    assert get("/api/jobs?status=failed,cancelled&limit=0").json()["jobs"] == []
    assert get("/api/jobs?status=bogus").json() == {
        "error": "Invalid status value(s): bogus. "
        "Valid values: pending, in_progress, completed, failed, cancelled"
    }
