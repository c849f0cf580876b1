"""Workflow files as other programs write them, run through the command line."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend import InvalidArgument, get_backend
from tests.support.comfyui_program import ComfyUI, running_comfyui
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio

ROOT = Path(__file__).resolve().parents[3]
GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "odin.png"}, "_meta": {"title": "Load"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "t"}},
}
EMPTY = {
    **GRAPH,
    "1": {"class_type": "EmptyImage", "inputs": {"width": 6, "height": 4, "batch_size": 1, "color": 3}},
}


def png(color: str) -> bytes:
    """A picture of one color."""
    stream = io.BytesIO()
    Image.new("RGB", (6, 4), color).save(stream, "PNG")
    return stream.getvalue()


RED, BLUE = png("red"), png("blue")
B64 = base64.b64encode(RED).decode()


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("comfyui")) as program:
        yield program


def run(
    body: Any, folder: Path, variables: dict[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    """Run a body as `inv generate.workflow` does; the result goes to out.png in the folder."""
    file = folder / "body.json"
    file.write_text(json.dumps(body))
    env = {**os.environ, **variables, "COMFYFORM_STATE_DIR": str(folder / "state")}
    words = ("generate.workflow", str(file), "--output-path", str(folder / "out.png"), *options)
    return subprocess.run(
        [sys.executable, "-m", "ops.commands.inv", "--search-root", str(ROOT), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        timeout=HANG_S,
        check=False,
    )


def color(path: Path) -> Any:
    """The color of a picture's first pixel."""
    return Image.open(path).convert("RGB").getpixel((0, 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "pixel"),
    [
        ({"prompt": EMPTY, "client_id": "x", "extra_data": {}}, (0, 0, 3)),
        ({"input": {"workflow": EMPTY}}, (0, 0, 3)),
        ({"input": {"workflow": GRAPH, "images": [{"name": "odin.png", "image": B64}]}}, (255, 0, 0)),
        (
            {"workflow": GRAPH, "images": [{"name": "odin.png", "image": f"data:image/png;base64,{B64}"}]},
            (255, 0, 0),
        ),
        (
            {"workflow": GRAPH, "images": [{"name": "odin.png", "image": base64.encodebytes(RED).decode()}]},
            (255, 0, 0),
        ),
    ],
    ids=["prompt body", "test_input.json", "with an image", "data URI", "base64 in lines"],
)
def test_bodies_of_other_programs_are_run(
    comfyui: ComfyUI, tmp_path: Path, body: Any, pixel: tuple[int, int, int]
) -> None:
    """The body of ComfyUI's /prompt, and the input of RunPod's worker-comfyui with its images."""
    done = run(body, tmp_path, {"COMFYUI_URL": comfyui.url}, "--backend", "local")

    assert done.returncode == 0, done.stderr
    assert color(tmp_path / "out.png") == pixel


@pytest.mark.slow
def test_a_file_on_the_command_line_goes_before_an_image_of_the_body(
    comfyui: ComfyUI, tmp_path: Path
) -> None:
    """The same body can be tried with another picture."""
    (tmp_path / "blue.png").write_bytes(BLUE)
    body = {"input": {"workflow": GRAPH, "images": [{"name": "odin.png", "image": B64}]}}
    options = ("--backend", "local", "--inputs", f"odin.png={tmp_path / 'blue.png'}")

    done = run(body, tmp_path, {"COMFYUI_URL": comfyui.url}, *options)

    assert done.returncode == 0, done.stderr
    assert color(tmp_path / "out.png") == (0, 0, 255)


@pytest.mark.slow
def test_images_of_a_body_travel_to_a_worker(emu: Emulator, tmp_path: Path) -> None:
    """As test_input.json is meant: for an endpoint on RunPod."""
    studio = Studio(emu, "comfyform/worker")
    body = {"input": {"workflow": GRAPH, "images": [{"name": "odin.png", "image": B64}]}}
    variables = emu.env | {"RUNPOD_ENDPOINT_ID": studio.endpoint_id}

    done = run(body, tmp_path, variables, "--backend", "runpod")

    assert done.returncode == 0, done.stderr
    assert color(tmp_path / "out.png") == (255, 0, 0)
    assert hashlib.sha256(RED).hexdigest()[:16] in (tmp_path / "out.png").read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ("odin.png", "images must be a list of objects with name and image"),
        ([7], "images must be a list of objects with name and image"),
        ([{"name": "odin.png"}], "images must be a list of objects with name and image"),
        ([{"name": "odin.png", "image": "!"}], "inputs 'odin.png' is a data: URI whose base64 is broken"),
        ([{"name": "odin.png", "image": ""}], "inputs 'odin.png' is a data: URI without data"),
    ],
)
def test_images_that_cannot_be_read_are_refused(images: Any, problem: str) -> None:
    """Before anything is sent."""
    with get_backend("local") as backend, pytest.raises(InvalidArgument, match=problem):
        backend.workflow({"input": {"workflow": GRAPH, "images": images}})
