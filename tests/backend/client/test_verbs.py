"""One suite: every verb on every backend, through both faces, on real processes and sockets."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend import (
    GenerationResult,
    InvalidArgument,
    JobFailed,
    NotSupported,
    get_backend,
)
from backend.flow.http_driver import Http
from backend.runpod.backend import RunPodBackend
from backend.verbs.request import read
from tests.support.comfyui_program import slow
from tests.support.deadlines import HANG_S
from tests.support.studio_models import write_wav

pytestmark = pytest.mark.slow
pytest_plugins = ["tests.support.every_backend"]
everywhere = pytest.mark.parametrize(
    "where", ["local", "runpod", "cloud", "hedra"], indirect=True, scope="module"
)

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "me.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "b"}},
}
MAGIC = {".png": b"\x89PNG", ".flac": b"fLaC", ".wav": b"RIFF", ".mp4": b"ftyp"}


def check_file(result: GenerationResult, kind: str, path: Path) -> None:
    """The first file is there, of its kind, and is what the result says of it."""
    assert result.raise_for_failure().success
    file = result.files[0]
    content = path.read_bytes()
    assert (file.type, file.local_path) == (kind, path)
    assert MAGIC[Path(file.filename).suffix] in content[:12]
    assert (file.size_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@everywhere
def test_health(call, where):
    """A backend that would take a job says so."""
    health = call("health_check")

    assert (health.backend, health.healthy, health.error) == (where[0], True, None)


@everywhere
def test_portrait(call, where, tmp_path):
    """A PNG at its place, and the seed that was asked for."""
    events: list[Any] = []

    result = call(
        "portrait", prompt="a red fox", seed=7, output_path=tmp_path / "fox.png", on_progress=events.append
    )

    check_file(result, "image", tmp_path / "fox.png")
    assert (result.backend, result.seed) == (where[0], 7)
    assert result.prompt_id or result.job_id
    assert events != []


@everywhere
def test_a_random_seed_is_told(call, tmp_path):
    """Without a seed a random one is used, and the result says which, so that it can be had again."""
    first = call("imagine", description="a fox", quality="draft", output_path=tmp_path / "a.png")
    again = call(
        "imagine", description="a fox", quality="draft", seed=first.seed, output_path=tmp_path / "b.png"
    )

    check_file(first, "image", tmp_path / "a.png")
    assert first.seed is not None
    assert again.seed == first.seed


def test_imagine_with_every_wish(call, tmp_path):
    """Another checkpoint, a LoRA, a style and a size of one's own."""
    result = call(
        "imagine",
        description="a fox",
        style="watercolour",
        model="dreamshaper_8.safetensors",
        loras=["film.safetensors"],
        width=64,
        height=96,
        quality="ultra",
        output_path=tmp_path / "fox.png",
    )

    check_file(result, "image", tmp_path / "fox.png")


def test_flux(call, tmp_path):
    """An all-in-one Flux checkpoint gets the graph that suits it."""
    result = call(
        "portrait", prompt="a fox", model="flux1-schnell-fp8.safetensors", output_path=tmp_path / "f.png"
    )

    check_file(result, "image", tmp_path / "f.png")


@everywhere
def test_speech_and_film(call, where, voice, tmp_path):
    """The speech is handed on as the result that it is, and the film has its length."""
    seed = None if where[0] == "hedra" else 3  # no voice at Hedra takes one
    portrait = call("portrait", prompt="a face", seed=1, output_path=tmp_path / "face.png")
    speech = call(
        "tts",
        text="Hello there, my friend.",
        voice_reference=voice,
        seed=seed,
        output_path=tmp_path / "s.flac",
    )
    film = call(
        "lipsync",
        portrait_image=tmp_path / "face.png",
        audio=speech.files[0],
        inference_steps=2,
        output_path=tmp_path / "film.mp4",
    )

    check_file(portrait, "image", tmp_path / "face.png")
    check_file(speech, "audio", tmp_path / "s.flac")
    check_file(film, "video", tmp_path / "film.mp4")
    left_out = ("hedra-avatar has no inference_steps: it was left out.",)
    assert (speech.seed, film.warnings) == (seed, () if seed else left_out)


@everywhere
def test_talk(call, where, voice, tmp_path):
    """Text, voice and portrait in, film out: one job where there is a ComfyUI, two where there is none."""
    portrait = call("portrait", prompt="a face", output_path=tmp_path / "face.png").files[0]

    film = call(
        "talk",
        text="Hello there, my friend.",
        voice_reference=voice,
        portrait_image=portrait,
        inference_steps=2,
        output_path=tmp_path / "film.mp4",
    )

    check_file(film, "video", tmp_path / "film.mp4")
    assert ("tts" in film.timings) == (where[0] == "hedra")


@everywhere
def test_a_talk_can_be_left_and_resumed(where, voice, tmp_path):
    """One id for the whole of it; where it is two jobs that is said before anything is submitted."""
    name, settings = where
    with get_backend(name, settings=settings) as backend:
        face = backend.portrait(prompt="a face", output_path=tmp_path / "face.png").files[0]
        inputs = {
            "text": "Hello there, my friend.",
            "voice_reference": voice,
            "portrait_image": face,
            "seed": 3,
        }
        if name == "hedra":
            with pytest.raises(NotSupported, match="talk is two jobs: submit tts, then lipsync"):
                backend.submit("talk", **inputs)
            return
        job = backend.submit("talk", inference_steps=2, **inputs)
    with get_backend(name, settings=settings) as other:
        film = other.resume(job.id, output_path=tmp_path / "film.mp4")

    check_file(film, "video", tmp_path / "film.mp4")
    assert film.seed == 3


def test_workflow_with_an_input(call, tmp_path):
    """Any graph runs with files of one's own; several results get places of their own."""
    picture = tmp_path / "ich.png"
    call("portrait", prompt="me", output_path=picture).raise_for_failure()

    result = call("workflow", graph=GRAPH, inputs={"me.png": picture}, output_path=tmp_path / "out.png")

    check_file(result, "image", tmp_path / "out.png")
    assert [file.local_path for file in result.files] == [tmp_path / "out.png", tmp_path / "out-2.png"]
    assert result.seed is None


@pytest.mark.parametrize("where", ["local", "runpod", "cloud"], indirect=True)
def test_progress_comes_in_steps_and_in_one_shape(where):
    """Node, step of how many, and percent, whoever runs it: no backend has words of its own for it."""
    name, settings = where
    events: list[Any] = []

    with get_backend(name, settings=settings) as backend:
        backend.workflow(slow(40, 0.1), on_progress=events.append).raise_for_failure()

    steps = [event for event in events if event.get("max")]
    assert {(event["progress"], event["node"], event["class_type"], event["max"]) for event in steps} == {
        ("run", "2", "EmulatorSlow", 40)
    }
    values = [event["value"] for event in steps]
    assert values == sorted(values)
    assert [event["percent"] for event in steps] == [int(100 * value / 40) for value in values]
    assert len(set(values)) > 1


def test_a_run_that_fails_is_a_result(call, tmp_path):
    """A missing model does not raise; the result has the typed error and names what is there."""
    result = call("portrait", prompt="x", model="nope.safetensors", output_path=tmp_path / "x.png")

    assert (result.success, result.files) == (False, ())
    assert isinstance(result.exception, JobFailed)
    assert "nope.safetensors" in str(result.error)
    assert "sd_xl_base_1.0.safetensors" in str(result.error)
    with pytest.raises(JobFailed):
        result.raise_for_failure()


@everywhere
def test_wrong_arguments_raise_at_once(call):
    """What the caller must mend is no result, and nothing was sent."""
    with pytest.raises(InvalidArgument, match="prompt is missing"):
        call("portrait", width=7)


@everywhere
def test_a_job_can_be_left_and_resumed(where, tmp_path):
    """A handle is enough to fetch the result later, from another object or process."""
    name, settings = where
    with get_backend(name, settings=settings) as backend:
        job = backend.submit("portrait", prompt="later", seed=9, output_path=tmp_path / "later.png")
    with get_backend(name, settings=settings) as other:
        result = other.resume(job.id, output_path=tmp_path / "later.png")
        state = other.status(job.id).state

    check_file(result, "image", tmp_path / "later.png")
    assert (result.seed, state) == (9, "COMPLETED")


def test_a_job_that_has_ended_can_be_cancelled(where):
    """It makes no difference, and is no error."""
    name, settings = where
    with get_backend(name, settings=settings) as backend:
        job = backend.submit("portrait", prompt="done", seed=9)
        job.wait().raise_for_failure()

        assert job.cancel() in (True, False)
        assert job.status().state == "COMPLETED"


def test_a_result_comes_back_over_the_volume(runpod_settings, tmp_path):
    """What is left on the volume, as anything too large for an answer is, is fetched over S3 and checked."""
    request = read("portrait", {"prompt": "x", "seed": 2, "output_path": tmp_path / "x.png"})
    flows = RunPodBackend.from_settings(runpod_settings)

    with Http() as http:
        result = http.run(flows.generate(replace(request, keep_there=True), deadline_s=HANG_S))

    check_file(result, "image", tmp_path / "x.png")
    assert str(result.files[0].origin_path).startswith("outputs/")


def test_a_large_input_reaches_the_worker_over_the_volume(runpod_settings, tmp_path):
    """A recording that no job can carry is put on the volume and used from there."""
    voice = write_wav(tmp_path / "long.wav", 300.0)
    graph = {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "voice"}},
        "2": {
            "class_type": "TrimAudioDuration",
            "inputs": {"audio": ["1", 0], "start_index": 0, "duration": 1},
        },
        "3": {"class_type": "SaveAudio", "inputs": {"audio": ["2", 0], "filename_prefix": "v"}},
    }

    with get_backend("runpod", settings=runpod_settings) as backend:
        result = backend.workflow(graph, inputs={"voice": voice}, output_path=tmp_path / "v.flac")

    assert voice.stat().st_size > 9_000_000
    check_file(result, "audio", tmp_path / "v.flac")


def test_a_result_outlives_runpods_memory(runpod_settings, tmp_path):
    """Fetched once, it is given again without asking; lost here, it is fetched from the volume again."""
    place = tmp_path / "x.png"
    request = read("portrait", {"prompt": "x", "seed": 2, "output_path": place})
    flows = RunPodBackend.from_settings(runpod_settings)
    with Http() as http:
        first = http.run(flows.generate(replace(request, keep_there=True), deadline_s=HANG_S))
    # A job id that RunPod does not know stands for one that it has forgotten.
    (entry,) = [entry for entry in flows.journal.entries() if entry.job_id == first.job_id]
    flows.journal.write(entry, job_id="forgotten", submitted_at="2026-01-01T00:00:00Z")

    with get_backend("runpod", settings=runpod_settings) as backend:
        again = backend.resume("forgotten")
        place.unlink()
        refetched = backend.resume("forgotten")
        elsewhere = backend.resume("forgotten", output_path=tmp_path / "y.png")

    assert again.files == refetched.files == first.files
    assert place.read_bytes() == (tmp_path / "y.png").read_bytes()
    check_file(elsewhere, "image", tmp_path / "y.png")
