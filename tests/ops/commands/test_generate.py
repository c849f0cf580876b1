"""What the command line makes of the verbs and of the journal."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import GenerationResult, Health, InvalidArgument, JobFailed, Request, Settings, register_backend
from backend.flow import Flow, Work
from backend.jobs.journal import Journal
from ops.commands.generate import generate, health, parsed, with_provider
from ops.commands.jobs import cancel_job, list_jobs, show_job, wait_job
from ops.console.console import Console
from ops.console.generation_progress import sentence_of, watching
from tests.support.comfyui_program import running_comfyui, slow
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio

REGISTRY = """
required:
  base:
    used_by: [portrait]
    license: MIT
    files:
      - path: checkpoints/nope.safetensors
        source: url:https://example.com/nope.safetensors
"""


class Told:
    """A backend that tells what it was asked."""

    name = "told"

    def health_check(self) -> Flow[Health]:
        yield Work(lambda: None)
        return Health(backend="told", healthy=False, error="it sleeps")

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        yield Work(lambda: None)
        if request["prompt"] == "fail":
            raise JobFailed("No nope.safetensors here.", output={"missing_models": ["nope.safetensors"]})
        return GenerationResult(success=True, backend="told", seed=request["seed"], timings={"total": 1.0})


@pytest.fixture(autouse=True)
def told() -> Iterator[None]:
    """A backend of this name."""
    from backend.client import factory

    register_backend("told", lambda _: Told())
    yield
    factory._registered.pop("told")


def test_texts_become_what_a_verb_takes():
    """Numbers, yes and no, lists of LoRAs and of inputs; an empty text means "not given"."""
    lora = {"name": "a.safetensors", "strength_model": 0.8, "strength_clip": 0.8}

    assert parsed("portrait", {"prompt": "x", "width": "64", "cfg_scale": "3.5", "steps": ""}) == {
        "prompt": "x",
        "width": 64,
        "cfg_scale": 3.5,
    }
    assert parsed("portrait", {"loras": "a.safetensors:0.8", "save_to_avatars": "yes"}) == {
        "loras": [lora],
        "save_to_avatars": True,
    }
    assert parsed("workflow", {"inputs": "a=b.png,c=d=e"}) == {"inputs": {"a": "b.png", "c": "d=e"}}
    assert parsed("talk", {"seed": "7", "text": "x"}) == {"seed": 7, "text": "x"}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"width": "wide"}, "width must be a whole number, got 'wide'"),
        ({"save_to_avatars": "maybe"}, "must be true or false"),
        ({"loras": "a:much"}, "must be FILE:STRENGTH"),
    ],
)
def test_a_text_that_is_none_is_said(inputs, message):
    """One line that says what is wanted."""
    with pytest.raises(InvalidArgument, match=message):
        parsed("portrait", inputs)


def test_a_result_is_json_on_stdout(capsys):
    """Data on stdout and nothing else, for programs."""
    code = generate("portrait", backend="told", json=True, prompt="x", seed="5")

    assert code == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 5


def test_a_failure_is_raised_for_one_line_and_an_exit_code():
    """The runner prints it; JSON of the result comes first."""
    with pytest.raises(JobFailed, match=r"No nope\.safetensors here"):
        generate("portrait", backend="told", prompt="fail")


def test_health_has_an_exit_code(capsys):
    """A script can ask before it spends."""
    assert health(backend="told") == 3
    assert capsys.readouterr().out == "told: it sleeps\n"


def test_a_missing_model_names_its_registry_entry(tmp_path):
    """The error of a run, in the words of the file that mends it."""
    registry = tmp_path / "models-registry.yaml"
    registry.write_text(REGISTRY)
    error = JobFailed("No.", output={"missing_models": ["nope.safetensors"]})
    other = JobFailed("There is nope.safetensors.", output={"missing_models": ["else.safetensors"]})
    of_worker = JobFailed("No.", output={"details": {"missing_models": ["models/x/nope.safetensors"]}})
    message = f"base in {registry} provides it: run `inv models.sync`."

    assert str(with_provider(error, registry)) == f"No. {message}"
    assert str(with_provider(other, registry)) == "There is nope.safetensors."
    assert str(with_provider(of_worker, registry)) == f"No. {message}"


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({"progress": "job", "state": "IN_QUEUE", "job_id": "j"}, "job j: waiting for a worker"),
        ({"progress": "run", "state": "queued", "position": 3}, "waiting in ComfyUI's queue, position 3"),
        ({"progress": "run", "state": "running"}, "running in ComfyUI"),
        ({"progress": "run", "node": "3", "class_type": "KSampler"}, "running KSampler"),
        (
            {"progress": "run", "node": "3", "class_type": "KSampler", "value": 2, "max": 20},
            "KSampler: step 2 of 20",
        ),
        ({"progress": "run", "node": "3", "value": 2, "max": 20}, "node 3: step 2 of 20"),
        ({"progress": "talk", "part": "tts"}, "generating speech"),
        ({"step": 3}, ""),
    ],
)
def test_progress_is_put_into_words(event, sentence):
    """People see sentences; what is of no interest to them is left out."""
    assert sentence_of(event) == sentence


STEPS = [
    {"progress": "run", "state": "running", "node": "3", "class_type": "KSampler", "value": step, "max": 40}
    for step in range(1, 41)
]


def test_a_log_gets_a_line_a_tenth_and_a_terminal_a_bar():
    """Forty steps are ten lines for who reads a log, and one bar for who watches."""
    log, screen = io.StringIO(), Terminal()
    for err in (log, screen):
        with watching(Console(out=io.StringIO(), err=err)) as tell:
            for event in STEPS:
                tell(event)

    assert [line for line in log.getvalue().splitlines() if "step" in line][:2] == [
        "KSampler: step 1 of 40",
        "KSampler: step 4 of 40",
    ]
    assert len(log.getvalue().splitlines()) == 11
    assert "40/40" in screen.getvalue()
    assert "step" not in screen.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_jobs_are_listed_shown_and_cancelled(emu: Emulator, tmp_path: Path, capsys: Any):
    """A detached job is in the list, can be asked for and cancelled, by its id or by its key."""
    emu.set(shortage=["cpu3c"])
    env = {
        "RUNPOD_ENDPOINT_ID": Studio(emu, "comfyform/ops").endpoint_id,
        "COMFYFORM_STATE_DIR": str(tmp_path),
    }
    settings = Settings.from_env(emu.env | env)
    assert generate("portrait", backend="runpod", detach=True, json=True, prompt="x", settings=settings) == 0
    job_id = json.loads(capsys.readouterr().out)["job_id"]
    (entry,) = Journal(tmp_path / "jobs").entries()

    assert list_jobs(json=True, settings=settings) == 0
    listed = json.loads(capsys.readouterr().out)
    assert show_job(entry.key, json=True, settings=settings) == 0
    shown = json.loads(capsys.readouterr().out)
    assert cancel_job(entry.key, settings=settings) == 0
    with pytest.raises(Exception, match="was cancelled"):
        wait_job(job_id, settings=settings)

    assert [(job["job_id"], job["state"]) for job in listed] == [(job_id, "IN_QUEUE")]
    assert shown["now"]["state"] == "IN_QUEUE"
    assert [entry.state for entry in Journal(tmp_path / "jobs").entries()] == ["CANCELLED"]


@pytest.mark.slow
def test_what_is_said_of_a_detached_run_fetches_it(tmp_path: Path, capsys: Any):
    """Also of a ComfyUI here, whose runs are in no journal: the command is whole."""
    with running_comfyui(tmp_path / "comfyui") as comfyui:
        settings = Settings(comfyui_url=comfyui.url, comfyform_state_dir=str(tmp_path / "state"))
        place = tmp_path / "slow.png"
        graph = tmp_path / "slow.json"
        graph.write_text(json.dumps(slow()))
        generate("workflow", detach=True, graph=str(graph), output_path=str(place), settings=settings)
        _, _, job, *options = capsys.readouterr().err.partition("with: ")[2].split()

        assert options == ["--backend", "local", "--output-path", str(place)]
        assert wait_job(job, backend="local", output_path=str(place), settings=settings) == 0

    assert place.read_bytes().startswith(b"\x89PNG")


def test_no_jobs_is_no_error(tmp_path, capsys):
    """An empty journal is said, with its place."""
    assert list_jobs(settings=Settings(comfyform_state_dir=str(tmp_path))) == 0
    assert str(tmp_path) in capsys.readouterr().err
