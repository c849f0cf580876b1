"""The local fault table: a ComfyUI that fails in every way it can, in both its shapes, on real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend import (
    Backend,
    InvalidArgument,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    Settings,
    WaitTimeout,
    get_backend,
)
from backend.comfyui.api import ComfyUI as Conversation
from backend.comfyui.backend import LocalBackend
from backend.comfyui.responses import outputs
from tests.support.comfyui_program import ComfyUI, Graph, running_comfyui, slow, txt2img
from tests.support.deadlines import HANG_S
from tests.support.emulation import until
from tests.support.studio_models import fill_models, write_wav


@pytest.fixture(scope="module", params=["0.29.0", "0.3.64"])
def comfyui(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI, of the newest and of an old shape in turn."""
    folder = tmp_path_factory.mktemp("comfyui")
    fill_models(folder / "models")
    with running_comfyui(folder, "--pretend-version", request.param, "--max-upload-size", "1") as program:
        program.add_model("checkpoints/tiny.safetensors")
        yield program


@pytest.fixture
def backend(comfyui: ComfyUI) -> Iterator[Backend]:
    """Our client of it; knobs are turned back afterwards."""
    with get_backend(
        "local", settings=Settings(comfyui_url=comfyui.url, comfyform_timeout_s=HANG_S)
    ) as client:
        yield client
    comfyui.emulate(oom_in="", raise_in="", missing_nodes="", hang_in="", mute_sockets=0)


def show_text() -> Graph:
    return {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "hello ü"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }


def test_one_that_does_not_run_is_one_clear_line():
    """The message names the address and the variable that sets it."""
    with get_backend("local", settings=Settings(comfyui_url="http://127.0.0.1:9")) as backend:
        result = backend.portrait(prompt="x", model="m")
        health = backend.health_check()

    line = (
        "ComfyUI at http://127.0.0.1:9 cannot be reached. "
        "Start it, or set COMFYUI_URL to the address of one that runs."
    )
    assert (result.success, result.error, health.healthy, health.error) == (False, line, False, line)


@pytest.mark.parametrize(
    ("knob", "kind", "message"),
    [
        ({"oom_in": "KSampler"}, "OutOfMemoryError", "out of memory: a smaller picture"),
        ({"raise_in": "VAEDecode"}, "ValueError", "node 8 (VAEDecode) failed: ValueError"),
    ],
)
def test_a_node_that_raises_is_named(comfyui, backend, knob, kind, message):
    """Node, type and message at once, not after a time-out."""
    comfyui.emulate(**knob)

    result = backend.workflow(txt2img(seed=len(message)))

    assert isinstance(result.exception, JobFailed)
    assert message in str(result.error)
    assert kind in result.exception.worker_error


def test_a_missing_node_pack_says_what_to_look_for(comfyui, backend):
    """A pack whose import failed is simply absent; the error names the node and where to look."""
    comfyui.emulate(missing_nodes="SaveImage")

    result = backend.workflow(txt2img())

    assert "SaveImage" in str(result.error)
    assert "IMPORT FAILED" in str(result.error)


def test_a_partly_refused_graph_does_not_run_in_part(backend):
    """ComfyUI answers 200 and would run the good half; that is not what was asked for."""
    graph = slow()
    graph["9"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}

    result = backend.workflow(graph)

    assert (result.success, result.error) == (
        False,
        "ComfyUI refuses the workflow: node 9 (SaveImage): images is missing.",
    )


def test_the_deadline_interrupts_our_run_and_nobody_elses(comfyui, backend):
    """A run that waits behind another's is taken out of the queue; the other goes on."""
    foreign = comfyui.http.post("/prompt", json={"prompt": slow(1000, 0.05)}).json()["prompt_id"]

    result = backend.workflow(slow(30, 0.05), timeout_s=3.0)
    queue = comfyui.http.get("/queue").json()
    comfyui.http.post("/interrupt", json={"prompt_id": foreign})

    assert isinstance(result.exception, WaitTimeout)
    assert [item[1] for item in queue["queue_running"]] == [foreign]
    assert queue["queue_pending"] == []


def test_a_running_run_of_ours_is_interrupted_at_the_deadline(comfyui, backend):
    """Nothing of ours is left in the queue."""
    result = backend.workflow(slow(1000, 0.05), timeout_s=3.0)

    assert isinstance(result.exception, WaitTimeout)
    _until_empty(comfyui)


def test_somebody_elses_interrupt_is_a_cancel(comfyui, backend):
    """A run that is stopped from the editor is not called a failure of its node."""

    def stop(event: Any) -> None:
        if event.get("state") == "running":
            comfyui.http.post("/interrupt", json={"prompt_id": event["prompt_id"]})

    result = backend.workflow(slow(1000, 0.05), on_progress=stop)

    assert isinstance(result.exception, JobCancelled)


def test_ctrl_c_interrupts_our_run(comfyui, backend):
    """What is raised during the wait stops the run before it is passed on."""

    def press(event: Any) -> None:
        if event.get("state") == "running":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.workflow(slow(1000, 0.05), on_progress=press)

    _until_empty(comfyui)


def _until_empty(comfyui: ComfyUI) -> None:
    """An interrupt takes effect at the next step."""
    until(lambda: comfyui.http.get("/queue").json() == {"queue_running": [], "queue_pending": []})


def test_a_cached_output_whose_file_is_gone_is_made_again(comfyui, backend, tmp_path):
    """ComfyUI answers an identical run from its cache without looking whether the file is still there."""
    graph = slow(2, 0.0)
    graph["3"]["inputs"]["filename_prefix"] = "gone"
    backend.workflow(graph, output_path=tmp_path / "a.png").raise_for_failure()
    for path in (comfyui.folder / "output").glob("gone*"):
        path.unlink()

    result = backend.workflow(graph, output_path=tmp_path / "b.png")

    assert result.raise_for_failure().files[0].size_bytes == (tmp_path / "b.png").stat().st_size


def test_a_late_history_is_waited_for(comfyui, backend, tmp_path):
    """History lags behind the end of a run; nothing is lost and nothing fails."""
    comfyui.emulate(history_delay_s=0.3)

    result = backend.portrait(prompt="x", seed=3, output_path=tmp_path / "x.png")
    comfyui.emulate(history_delay_s=0.005)

    assert result.raise_for_failure().seed == 3


def test_a_silent_socket_holds_up_nothing(comfyui, backend):
    """Polling is the authority: only the steps are not told."""
    events: list[Any] = []
    comfyui.emulate(mute_sockets=1)

    result = backend.workflow(slow(10, 0.05), on_progress=events.append)

    assert result.raise_for_failure().success
    assert [event["state"] for event in events if event["progress"] == "run"] == ["running"]


def test_the_same_bytes_are_sent_up_once(comfyui, backend, tmp_path):
    """Uploads are named by content; letters of every script stay in the name."""
    voice = write_wav(tmp_path / "naïve 图.wav")
    graph = {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "voice"}},
        "2": {"class_type": "SaveAudio", "inputs": {"audio": ["1", 0], "filename_prefix": "v"}},
    }

    for _ in range(2):
        backend.workflow(graph, inputs={"voice": voice}, output_path=tmp_path / "v.flac").raise_for_failure()

    remaining = [path.name for path in (comfyui.folder / "input" / "comfyform").glob("*naïve*")]
    assert [name.partition("_")[2] for name in remaining] == ["naïve_图.wav"]


def test_an_upload_over_the_limit_is_an_error(backend, tmp_path):
    """ComfyUI's 413 comes through in its own words."""
    big = tmp_path / "big.wav"
    big.write_bytes(bytes(2_000_000))

    result = backend.lipsync(portrait_image="avatars/x.png", audio=big)

    assert isinstance(result.exception, InvalidRequest)
    assert "Maximum request body size 1048576 exceeded" in str(result.error)


def test_a_text_is_an_output_too(backend, tmp_path):
    """Nodes that show a text give it in the result, and as a file where one is wanted."""
    here = backend.workflow(show_text(), output_path=tmp_path / "t.txt").raise_for_failure()
    there = backend.workflow(show_text()).raise_for_failure()

    assert (tmp_path / "t.txt").read_text("utf-8") == "hello ü"
    assert [(file.type, file.text) for file in (*here.files, *there.files)] == [("text", "hello ü")] * 2


def test_a_batch_gets_a_place_for_each(backend, tmp_path):
    """Three pictures of one node do not overwrite each other; in a folder they keep their names."""
    graph = txt2img(seed=11)
    graph["5"]["inputs"]["batch_size"] = 3
    folder = tmp_path / "all"
    folder.mkdir()

    backend.workflow(graph, output_path=tmp_path / "p.png").raise_for_failure()
    named = backend.workflow(graph, output_path=folder).raise_for_failure()

    assert sorted(path.name for path in tmp_path.glob("p*")) == ["p-2.png", "p-3.png", "p.png"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(file.filename for file in named.files)


def test_without_a_place_results_stay_where_they_are(backend):
    """Nothing is fetched; the address can be opened, and the file handed on."""
    created = backend.portrait(prompt="a face", seed=1).raise_for_failure()
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "it"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "again"}},
    }

    again = backend.workflow(graph, inputs={"it": created.files[0]}).raise_for_failure()

    assert (created.files[0].local_path, created.files[0].sha256) == (None, None)
    assert str(created.files[0].remote_url).startswith("http://127.0.0.1:")
    assert again.files[0].filename.startswith("again_")


def test_an_avatar_is_kept_among_the_inputs(comfyui, backend):
    """``save_to_avatars`` puts the portrait where lipsync finds it by name, and never outside of it."""
    created = backend.portrait(prompt="odin", save_to_avatars=True, avatar_name="odin").raise_for_failure()

    assert created.files[0].origin_path == "avatars/odin.png"
    assert (comfyui.folder / "input" / "avatars" / "odin.png").is_file()
    with pytest.raises(InvalidArgument, match="plain file name"):
        backend.portrait(prompt="odin", save_to_avatars=True, avatar_name="../../odin")


def test_without_a_model_a_checkpoint_is_chosen_and_said(comfyui, backend):
    """The default is used where it is; else the first that makes pictures, with a warning."""
    default = comfyui.folder / "models" / "checkpoints" / "sd_xl_base_1.0.safetensors"
    moved = default.rename(default.with_suffix(".away"))
    try:
        result = backend.portrait(prompt="x").raise_for_failure()
    finally:
        moved.rename(default)

    assert result.warnings == (
        "No model was given and sd_xl_base_1.0.safetensors is not there: dreamshaper_8.safetensors was used.",
    )


@pytest.mark.parametrize(("seconds", "message"), [(0.4, "needs at least a second"), (1.5, "")])
def test_audio_is_measured_before_it_is_used(backend, tmp_path, seconds, message):
    """SONIC takes no less than a second of sound."""
    voice = write_wav(tmp_path / "v.wav", seconds)
    call: Callable[[], Any] = lambda: backend.lipsync(portrait_image="nobody.png", audio=voice)  # noqa: E731

    if message:
        with pytest.raises(InvalidArgument, match=message):
            call()
    else:
        assert "nobody.png" in str(call().error)


@pytest.mark.slow
def test_a_comfyui_that_dies_in_the_middle_is_noticed(tmp_path):
    """The run is lost, and said so as soon as it has been silent for a while."""
    fill_models(tmp_path / "models")
    with running_comfyui(tmp_path, "--emulate", "die_in=KSampler") as program:
        flows = LocalBackend(Conversation(program.url), silence_s=0.3)
        with Backend(flows, deadline_s=HANG_S) as backend:
            result = backend.portrait(prompt="x")

    assert isinstance(result.exception, JobFailed)
    assert "stopped answering in the middle" in str(result.error)


def test_saved_files_are_preferred_to_previews():
    """Previews count only where nothing was saved; any key with file names counts."""
    preview = {"images": [{"filename": "p.png", "subfolder": "", "type": "temp"}]}
    saved = {"gifs": [{"filename": "v.mp4", "subfolder": "a", "type": "output"}], "animated": [True]}

    assert [found.filename for found in outputs({"outputs": {"1": preview, "2": saved}})] == ["v.mp4"]
    assert [found.annotated for found in outputs({"outputs": {"1": preview}})] == ["p.png [temp]"]
