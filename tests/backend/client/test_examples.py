"""Every example runs, as a user would run it, and stays short enough to be read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.comfyui_program import ComfyUI, txt2img
from tests.support.small_server import Answer, serving
from tests.support.studio_models import complete_comfyui, write_wav

EXAMPLES = Path(__file__).parents[3] / "examples"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI with every model and an avatar."""
    with complete_comfyui(tmp_path_factory.mktemp("comfyui")) as program:
        program.add_model("checkpoints/tiny.safetensors")
        yield program


@pytest.fixture
def run(comfyui: ComfyUI, tmp_path: Path) -> Run:
    """Run an example in a folder of its own."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"COMFYUI_URL": comfyui.url, "COMFY_BACKEND": "local"}
        command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def portrait(run: Run, tmp_path: Path) -> Path:
    """A portrait, made by the fan-out example."""
    done = run("fan_out.py", str(tmp_path / "made"), "a face")
    assert done.returncode == 0, done.stderr
    return tmp_path / "made" / "001.png"


@pytest.mark.slow
def test_the_seeds_snippet(run, portrait, tmp_path):
    """Portrait and recording in, film out; a failure is one line and an exit code."""
    voice = write_wav(tmp_path / "speech.wav")

    done = run("lipsync.py", str(portrait), str(voice), "odin.mp4")
    failed = run("lipsync.py", "avatars/nobody.png", str(voice), "x.mp4")

    assert (done.returncode, done.stdout.endswith("odin.mp4\n")) == (0, True), done.stderr
    assert b"ftyp" in (tmp_path / "odin.mp4").read_bytes()[:12]
    assert (failed.returncode, "Traceback" in failed.stderr) == (1, False)


@pytest.mark.slow
def test_fan_out(run, tmp_path):
    """As many pictures as descriptions, each in its place."""
    done = run("fan_out.py", "made", "a fox", "an owl", "a bear")

    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["001.png", "002.png", "003.png"]


@pytest.mark.slow
def test_talk(run, portrait, tmp_path):
    """One call makes the film; how far it is is told on the way."""
    voice = write_wav(tmp_path / "voice.wav")

    done = run("talk.py", "Hello there.", str(voice), str(portrait), "talk.mp4")

    assert done.returncode == 0, done.stderr
    assert "progress=run" in done.stderr
    assert (tmp_path / "talk.mp4").stat().st_size > 0


@pytest.mark.slow
def test_workflow_file(run, tmp_path):
    """A file in API format runs; one that is none is refused in one line."""
    (tmp_path / "fox.json").write_text(json.dumps(txt2img()))
    (tmp_path / "ui.json").write_text('{"nodes": [], "links": []}')

    done = run("workflow_file.py", "fox.json", "fox.png")
    refused = run("workflow_file.py", "ui.json", "x.png")

    sha256 = hashlib.sha256((tmp_path / "fox.png").read_bytes()).hexdigest()
    assert (done.returncode, done.stdout.split()[-1]) == (0, sha256), done.stderr
    assert (refused.returncode, "Export it in API format" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_own_backend(run, tmp_path):
    """A backend that is one class gives a checked file like any other."""
    with serving(lambda _: Answer(body=b"a picture")) as gallery:
        done = run("own_backend.py", gallery.url, "p.png")

    assert done.stdout.strip() == hashlib.sha256(b"a picture").hexdigest(), done.stderr


@pytest.mark.parametrize(
    "name", ["lipsync.py", "fan_out.py", "talk.py", "workflow_file.py", "own_backend.py"]
)
def test_an_example_is_short(name):
    """At most forty lines."""
    assert len((EXAMPLES / name).read_text().splitlines()) <= 40
