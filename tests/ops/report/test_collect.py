"""What a report finds out: of a stack on the emulator, of the journal, and what it could not."""

from __future__ import annotations

import dataclasses
import html
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backend.jobs.journal import Journal
from backend.settings import Secret, Settings
from ops.commands.report import report
from ops.report.collect import gather
from tests.support.comfyui_program import safetensors
from tests.support.emulation import Emulator
from tests.support.studio_models import CHECKPOINT as XL
from tests.support.studio_models import REGISTRY
from tests.support.worker_endpoint import Studio


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(REGISTRY)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of somebody who has nothing yet."""
    return Settings(
        comfyform_state_dir=str(tmp_path / "state"), comfyui_models_dir=str(tmp_path / "no models here")
    )


def write_jobs(settings: Settings, folder: Path) -> None:
    """Write down a job that made a picture, one that failed, and one that runs."""
    picture = folder / "odin.png"
    picture.write_bytes(b"\x89PNG")
    journal = Journal.from_settings(settings)
    file = {"type": "image", "filename": "x.png", "local_path": str(picture), "size_bytes": 4}
    result = {"files": [file], "seed": 7, "timings": {"total": 2.5}}
    for verb, params, changes in (
        ("portrait", {"prompt": "Odin"}, {"state": "COMPLETED", "result": result}),
        ("imagine", {"description": "a ship"}, {"state": "FAILED", "error": "No such model."}),
        (
            "lipsync",
            {"portrait_image": "PosixPath('/a/odin.png')", "audio": "b.flac"},
            {"state": "IN_PROGRESS"},
        ),
    ):
        entry = journal.begin(verb, "ep", seed=None, output_path=None, params=params)
        journal.write(entry, job_id=f"job-{verb}", **changes)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["job", "s3"])
def test_a_stack_is_found_out(
    emu: Emulator, settings: Settings, registry: Path, tmp_path: Path, transport: str
) -> None:
    """Volume, endpoint, models and prices, each as it is now, by either transport."""
    ops = Studio(emu, "comfyform/ops")
    (ops.volume / XL).parent.mkdir(parents=True)
    (ops.volume / XL).write_bytes(safetensors())
    env = {name: value for name, value in emu.env.items() if name.startswith("RUNPOD_")}
    env |= {
        "COMFYFORM_STATE_DIR": str(tmp_path / "state"),
        "COMFYUI_MODELS_DIR": str(tmp_path / "no models here"),
        "RUNPOD_VOLUME_ID": ops.volume_id,
        "RUNPOD_OPS_ENDPOINT_ID": ops.endpoint_id,
    }
    found = gather(Settings.from_env(env), title="demo", registry=registry, transport=transport)

    assert found.problems == ()
    volume, endpoint = found.resources
    assert (volume.kind, volume.identifier) == ("Network volume", ops.volume_id)
    assert volume.note.startswith("EU-RO-1 · 10 GB · ")
    assert (endpoint.kind, endpoint.state) == ("CPU endpoint", "ready")
    assert {model.path: model.state for model in found.models} == {
        XL: "unverified",
        "models/sonic/unet.pth": "missing",
    }
    assert {model.path: "may hold pickled code" in model.reason for model in found.models} == {
        XL: False,
        "models/sonic/unet.pth": True,
    }
    assert found.monthly_usd == pytest.approx(0.7)
    assert found.hourly_usd is not None
    assert found.hourly_usd > 0


def test_jobs_come_from_the_journal(settings: Settings, registry: Path, tmp_path: Path) -> None:
    """Newest first, with state, prompt, seed, time, error and the files that are still here."""
    write_jobs(settings, tmp_path)
    running, failed, done = gather(settings, title="x", registry=registry, transport="job").jobs

    assert (running.state, running.summary) == ("running", "odin.png says b.flac")
    assert (failed.state, failed.error, failed.summary) == ("failed", "No such model.", "a ship")
    assert (done.state, done.seconds, done.seed, done.summary) == ("succeeded", 2.5, 7, "Odin")
    assert [(file.name, file.size_bytes) for file in done.files] == [("odin.png", 4)]
    assert done.started_at.tzinfo is not None


def test_what_cannot_be_found_out_is_said(settings: Settings, tmp_path: Path) -> None:
    """A missing registry is a sentence on the page, and the rest of the page is there."""
    found = gather(
        settings,
        title="x",
        registry=tmp_path / "none.yaml",
        transport="job",
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )

    (problem,) = found.problems
    assert (problem.section, problem.exit_code) == ("models", 2)
    assert problem.sentence.startswith("Registry ")
    assert (found.resources, found.models, found.made_at.year) == ((), (), 2026)


def test_without_a_volume_nothing_is_called_missing(settings: Settings, registry: Path) -> None:
    """What was not looked at is unknown, not missing."""
    found = gather(settings, title="x", registry=registry, transport="job")

    assert {model.state for model in found.models} == {"unknown"}


def test_the_command_writes_one_page(
    settings: Settings, registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the page's path alone on stdout."""
    write_jobs(settings, tmp_path)
    page = tmp_path / "out" / "studio.html"

    assert report(output=str(page), registry=str(registry), settings=settings) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert "data:image/png;base64," in page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["studio.html"]


def test_a_page_that_lacks_a_section_is_written_and_no_success(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a registry and a key: the page, each failure on stderr and on it, and the first one's code."""
    required = dataclasses.replace(settings, runpod_endpoint_id="ep_1")
    page = tmp_path / "studio.html"

    code = report(output=str(page), registry=str(tmp_path / "none.yaml"), json=True, settings=required)

    captured = capsys.readouterr()
    output = json.loads(captured.out)["problems"]
    assert code == 2
    assert [problem["section"] for problem in output] == ["stack", "models"]
    assert output[0]["sentence"].startswith("RUNPOD_API_KEY is not set: ")
    for problem in output:
        assert problem["sentence"] in captured.err
        assert html.escape(problem["sentence"], quote=False) in page.read_text()


def test_a_key_alone_says_no_stack(settings: Settings, registry: Path) -> None:
    """Whoever forgot `inv env` is told of it; whoever uses no RunPod lacks nothing."""
    forgot = gather(
        dataclasses.replace(settings, runpod_api_key=Secret("k")),
        title="x",
        registry=registry,
        transport="job",
    )
    local = gather(settings, title="x", registry=registry, transport="job")

    assert [problem.sentence for problem in forgot.problems] == [
        'RUNPOD_ENDPOINT_ID is not set: it says which stack this is. Run: eval "$(./inv env)"'
    ]
    assert (local.problems, local.deployed) == ((), False)
