"""Before a job is paid for: what would be refused is refused here, and nothing that would work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend import Backend, GenerationResult, JobFailed, Settings, get_backend
from backend.comfyui.node_definitions import definitions_path
from ops.commands.generate import generate
from tests.support.comfyui_program import safetensors, txt2img
from tests.support.emulation import IMAGES, Emulator, running_emulator
from tests.support.studio_models import fill_models
from tests.support.worker_endpoint import Studio, until

IMAGE = "comfyform/worker:0.1.0"
CHECKPOINT = "sd_xl_base_1.0.safetensors"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """An endpoint whose worker has done one job, and left its definitions on the volume."""
    images = {IMAGE: IMAGES["comfyform/worker"]}
    with running_emulator(tmp_path_factory.mktemp("runpod"), images=images) as emu:
        studio = Studio(emu, IMAGE)
        fill_models(studio.volume / "models")
        studio.output(action="portrait", prompt="a fox")
        until((studio.volume / definitions_path(studio.endpoint_id)).is_file)
        yield studio


def settings_of(studio: Studio, state: Path, **changes: str) -> Settings:
    env = studio.emu.env | {
        "RUNPOD_ENDPOINT_ID": studio.endpoint_id,
        "RUNPOD_VOLUME_ID": studio.volume_id,
        "COMFYFORM_STATE_DIR": str(state),
        "COMFYFORM_TIMEOUT_S": "60",
    }
    return Settings.from_env(env | changes)


@pytest.fixture
def backend(studio: Studio, tmp_path: Path) -> Iterator[Backend]:
    with get_backend("runpod", settings=settings_of(studio, tmp_path)) as client:
        yield client


def submissions(emu: Emulator) -> int:
    return len(emu.requests("POST", "/jobs/v2/*/run*"))


def graph(node: str, **changes: Any) -> dict[str, Any]:
    """A graph that works, but for one node."""
    created = txt2img(seed=5, checkpoint=CHECKPOINT)
    created[node]["inputs"].update(changes)
    return created


WRONG = {
    "a sampler that is none": (
        graph("3", sampler_name="eulre"),
        "node 3 (KSampler), input sampler_name: 'eulre' is not available; choose one of euler",
    ),
    "a number out of range": (
        graph("5", width=7),
        "node 5 (EmptyLatentImage), input width: 7 is not from 16",
    ),
    "a node of no pack": (
        txt2img(checkpoint=CHECKPOINT) | {"9": {"class_type": "SaveHologram", "inputs": {}}},
        "node 9 (SaveHologram): this ComfyUI has no such node",
    ),
    "a model that is nowhere": (
        graph("4", ckpt_name="nope.safetensors"),
        "'nope.safetensors' is not available; choose one of dreamshaper_8.safetensors, flux1-schnell-fp8",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_workflow_is_not_submitted(studio, backend, tmp_path, name):
    """The error names node, input and what is allowed; no job was made, and none is written down."""
    before = submissions(studio.emu)
    wrong, message = WRONG[name]

    result: GenerationResult = backend.workflow(wrong)

    assert isinstance(result.exception, JobFailed)
    assert message in str(result.error)
    assert (submissions(studio.emu), list((tmp_path / "jobs").glob("*"))) == (before, [])


@pytest.mark.slow
def test_a_verb_is_checked_as_the_worker_would_build_it(studio, backend):
    """A portrait on a model that is not there names its place, for whoever knows a registry."""
    before = submissions(studio.emu)

    result = backend.portrait(prompt="x", model="odin/nope.safetensors", loras=["none.safetensors"])

    assert isinstance(result.exception, JobFailed)
    assert result.exception.output == {
        "missing_models": ["models/checkpoints/odin/nope.safetensors", "models/loras/none.safetensors"]
    }
    assert "are not on this worker's volume: name the model in models-registry.yaml" in str(result.error)
    assert submissions(studio.emu) == before


@pytest.mark.slow
def test_a_worker_names_the_missing_model_in_a_field(studio, tmp_path):
    """Without the check here the worker refuses, and a program reads the model's place, not the sentence."""
    settings = settings_of(studio, tmp_path, COMFYFORM_PREFLIGHT="off")

    with get_backend("runpod", settings=settings) as client:
        result = client.portrait(prompt="x", model="odin/nope.safetensors")

    assert isinstance(result.exception, JobFailed)
    details = (result.exception.output or {})["details"]
    assert details == {"missing_models": ["models/checkpoints/odin/nope.safetensors"]}


REGISTRY = """
required:
  odins-face:
    used_by: [portrait]
    license: MIT
    files:
      - path: checkpoints/odin.safetensors
        source: url:https://example.com/odin.safetensors
  another:
    used_by: [portrait]
    license: MIT
    files:
      - path: checkpoints/sd_xl_base_1.0.safetensors
        source: url:https://example.com/sd_xl_base_1.0.safetensors
"""


@pytest.mark.slow
def test_the_command_line_names_the_registrys_entry(studio, tmp_path, monkeypatch):
    """Who provides the model and how to get it, before a worker was paid to find out."""
    (tmp_path / "models-registry.yaml").write_text(REGISTRY)
    monkeypatch.chdir(tmp_path)
    before = submissions(studio.emu)

    with pytest.raises(
        JobFailed, match=r"\. odins-face in models-registry.yaml provides it: run `inv models.sync`"
    ):
        generate(
            "portrait",
            backend="runpod",
            prompt="x",
            model="odin.safetensors",
            settings=settings_of(studio, tmp_path),
        )

    assert submissions(studio.emu) == before


@pytest.mark.slow
def test_a_model_that_was_just_put_there_is_not_refused(studio, backend):
    """The definitions do not list it yet; the volume has it."""
    (studio.volume / "models" / "checkpoints" / "new.safetensors").write_bytes(safetensors())

    backend.portrait(prompt="x", model="new.safetensors").raise_for_failure()


@pytest.mark.slow
def test_a_good_job_costs_no_call_but_its_own(studio, tmp_path):
    """The definitions are kept on this machine for a while: two programs ask for them once."""
    path = f"/s3/{studio.volume_id}/{definitions_path(studio.endpoint_id)}"
    requested = []

    for _ in range(2):
        with get_backend("runpod", settings=settings_of(studio, tmp_path)) as client:
            client.workflow(graph("3")).raise_for_failure()
        requested.append(len(studio.emu.requests("GET", path)))

    assert requested[0] == requested[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "doubt",
    ["no control plane", "no keys", "another volume", "switched off", "changed since"],
)
def test_what_cannot_be_known_is_left_to_the_worker(studio, tmp_path, doubt):
    """It refuses in the same words before ComfyUI runs anything; here nothing is guessed."""
    settings = settings_of(studio, tmp_path)
    match doubt:
        case "no control plane":
            settings = replace(settings, runpod_rest_url="http://127.0.0.1:9/rest/v2")
        case "no keys":
            settings = replace(settings, runpod_s3_access_key_id=None)
        case "another volume":
            settings = replace(settings, runpod_volume_id="other")
        case "switched off":
            settings = settings_of(studio, tmp_path, COMFYFORM_PREFLIGHT="off")
        case "changed since":
            patch = {"env": {"COMFYFORM_ALLOW_HOSTS": "127.0.0.1", "NEW": "1"}}
            assert studio.emu.rest("PATCH", f"/serverless/{studio.endpoint_id}", patch).status_code == 200
    before = submissions(studio.emu)

    with get_backend("runpod", settings=settings) as client:
        result = client.workflow(graph("3", sampler_name="eulre"))

    assert "node 3 (KSampler): sampler_name 'eulre' is not available" in str(result.error)
    assert "ComfyUI refuses the workflow" in str(result.error)
    assert submissions(studio.emu) == before + 1
