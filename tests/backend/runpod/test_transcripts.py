"""What a voice recording says: refused before payment when it is unknown and cannot be recognized."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import InvalidArgument, get_backend
from backend.comfyui.build_workflow import plan
from backend.flow.http_driver import Http
from backend.runpod.preflight import DefinitionsOnly
from backend.verbs.catalog import verbs
from backend.verbs.request import read
from backend.verbs.transcripts import RECOGNIZER, RECOGNIZER_REF
from ops.registry.load import Registry, load
from ops.workflows.requirements import needs
from tests.backend.runpod.test_preflight import settings_of, submissions
from tests.support.emulation import IMAGES, running_emulator
from tests.support.studio_models import fill_hub, fill_models, write_wav
from tests.support.worker_endpoint import Studio, until

IMAGE = "comfyform/worker:0.1.0"
HUB = "huggingface-cache/hub"
REVISION = "41f01f3fe87f28c78e2fbf8b568835947dd65ed9"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """An endpoint with all required models, and no speech recognizer."""
    images = {IMAGE: IMAGES["comfyform/worker"]}
    with running_emulator(tmp_path_factory.mktemp("runpod"), images=images) as emu:
        studio = Studio(emu, IMAGE)
        fill_models(studio.volume / "models")
        fill_hub(studio.volume / HUB)
        yield studio


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """A recording on this machine without a text beside it."""
    path = write_wav(tmp_path / "vö ice.wav")
    path.with_suffix(".txt").unlink()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("blank", [None, "", " "])
def test_a_voice_of_unknown_words_is_not_paid_for(studio, voice, tmp_path, blank):
    """Neither as speech nor as a talking head; the error names the ways out."""
    (studio.volume / "voices").mkdir(exist_ok=True)
    (studio.volume / "voices" / "odin.wav").write_bytes(voice.read_bytes())
    before = submissions(studio.emu)

    with get_backend("runpod", settings=settings_of(studio, tmp_path)) as client:
        for call, more in (
            (client.tts, {"voice_reference": voice}),
            (client.tts, {"voice_reference": "voices/odin.wav"}),
            (client.talk, {"voice_reference": voice, "portrait_image": "avatars/odin.png"}),
        ):
            with pytest.raises(InvalidArgument, match="voice_reference_text is missing") as refused:
                call(text="Hello.", voice_reference_text=blank, **more)
            assert f"inv models.sync --only {RECOGNIZER}" in str(refused.value)

    assert submissions(studio.emu) == before


@pytest.mark.slow
@pytest.mark.parametrize("where", ["beside it here", "beside it on the volume", "in the request"])
def test_known_words_are_enough(studio, voice, tmp_path, where):
    """From the caller, from the file beside the recording, or from the one on the volume."""
    recording: Path | str = voice
    words = "This is my voice." if where == "in the request" else None
    if where == "beside it here":
        voice.with_suffix(".txt").write_text("This is my voice.")
    if where == "beside it on the volume":
        (studio.volume / "voices").mkdir(exist_ok=True)
        (studio.volume / "voices" / "freya.wav").write_bytes(voice.read_bytes())
        (studio.volume / "voices" / "freya.txt").write_text("This is my voice.")
        recording = "voices/freya.wav"

    with get_backend("runpod", settings=settings_of(studio, tmp_path)) as client:
        client.tts(
            text="Hello.", voice_reference=recording, voice_reference_text=words or ""
        ).raise_for_failure()


@pytest.mark.slow
def test_a_worker_refuses_for_clients_that_do_not_look(studio, voice, tmp_path):
    """Before ComfyUI runs anything, in the same words."""
    settings = settings_of(studio, tmp_path, COMFYFORM_PREFLIGHT="off")

    with get_backend("runpod", settings=settings) as client:
        result = client.tts(text="Hello.", voice_reference=voice)

    assert "voice_reference_text is missing" in str(result.error)
    assert result.prompt_id is None


@pytest.mark.slow
def test_a_recognizer_on_the_volume_is_used(studio, voice, tmp_path):
    """Provisioned as the registry's optional entry says."""
    registry = load(Path("models-registry.yaml"))
    (entry,) = [model for model in registry.optional if model.name == RECOGNIZER]
    models = [
        {
            "path": f"{HUB}/models--openai--whisper-large-v3-turbo/snapshots/{REVISION}/{name}",
            "source": file.source,
        }
        for file in entry.files
        for name in [file.path.rpartition("/")[2]]
    ]
    studio.output(action="provision", models=models)
    until((studio.volume / HUB / RECOGNIZER_REF).is_file)

    with get_backend("runpod", settings=settings_of(studio, tmp_path)) as client:
        client.tts(text="Hello.", voice_reference=voice).raise_for_failure()


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The project's own."""
    return load(Path("models-registry.yaml"))


ARGUMENTS: dict[str, dict[str, Any]] = {
    "portrait": {"prompt": "x"},
    "imagine": {"description": "x"},
    "tts": {"text": "x", "voice_reference": "voices/x.wav", "voice_reference_text": "x"},
    "lipsync": {"portrait_image": "avatars/x.png", "audio": "voices/x.wav"},
    "talk": {
        "text": "x",
        "voice_reference": "voices/x.wav",
        "voice_reference_text": "x",
        "portrait_image": "avatars/x.png",
    },
}
"""What every verb must be given; all else is a default. A workflow is the caller's own."""


def graph_of(verb: Any, **arguments: Any) -> str:
    """The graph of a request, as JSON."""
    with Http() as http:
        return json.dumps(http.run(plan(DefinitionsOnly({}), read(verb, arguments))).graph)


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_every_default_is_provided_for(registry, verb):
    """Each file that a verb reads by default is one of a required model."""
    required = {model.name for model in registry.required}

    found = needs(graph_of(verb, **ARGUMENTS[verb]), registry)

    assert found.models
    assert {model.provided_by for model in found.models} <= required
    assert ARGUMENTS.keys() | {"workflow"} == verbs().keys()


@pytest.mark.parametrize("verb", ["tts", "talk"])
def test_a_voice_of_unknown_words_needs_the_optional_recognizer(registry, verb):
    """`models.check-workflow` says so of a graph without the text."""
    arguments = {name: value for name, value in ARGUMENTS[verb].items() if name != "voice_reference_text"}

    found = {model.name: model.provided_by for model in needs(graph_of(verb, **arguments), registry).models}

    assert found[RECOGNIZER] == RECOGNIZER
    assert RECOGNIZER in {model.name for model in registry.optional}
