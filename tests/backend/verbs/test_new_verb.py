"""A verb is one file: a new module of `backend.verbs`, and nothing else, and every surface has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.emulation import IMAGES, running_emulator
from tests.support.worker_endpoint import Studio

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("backend", "ops", "infra", "worker", "mcp_server", "tools", "examples")
VERB = '''
"""``thumbnail``: a small copy of a picture."""

from typing import Annotated, Final, Required, TypedDict

from backend.verbs.params import InputLike, OutputPath, Param
from backend.verbs.request import Request
from backend.verbs.verb import GraphContext, Lookup, Planned, Verb


class ThumbnailParams(TypedDict, total=False):
    """Arguments of ``thumbnail``."""

    image: Required[Annotated[InputLike, Param("The picture to shrink.", aliases=("picture",))]]
    side: Annotated[int, Param("Width and height in pixels.", default=64, low=16, high=512)]
    output_path: OutputPath


def build(request: Request, context: GraphContext) -> Lookup[Planned]:
    """Build the graph."""
    name = yield from context.bring(request["image"])
    scaled = {"image": ["load", 0], "upscale_method": "area", "crop": "disabled"}
    graph = {
        "load": {"class_type": "LoadImage", "inputs": {"image": name}},
        "scale": {
            "class_type": "ImageScale",
            "inputs": {**scaled, "width": request["side"], "height": request["side"]},
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["scale", 0], "filename_prefix": "small"}},
    }
    return Planned(graph=graph)


VERB: Final = Verb(
    name="thumbnail",
    arguments=ThumbnailParams,
    summary="Make a small copy of a picture.",
    tool="Make a small copy of a picture, as a PNG file.",
    suffix=".png",
    graph=build,
)
'''
DECLARED = """
import json, sys
from backend import contract, get_backend
from mcp_server.tools import TOOLS
from worker.generate import named
from worker.jobs.messages import read

request = read({"id": "j", "input": {"action": "thumbnail", "picture": "avatars/odin.png", "side": 32}})
checked, files = named(request.action, request.params, request.inputs)
json.dump(
    {
        "contract": "thumbnail" in contract.VERBS and "thumbnail" in contract.ACTIONS,
        "worker": dict(checked.given),
        "tool": TOOLS["thumbnail"].description,
        "schema": TOOLS["thumbnail"].parameters,
    },
    sys.stdout,
)
"""
GENERATE = """
import sys
from backend import get_backend
from backend.files.image_size import image_size

picture, place, name = sys.argv[1:]
with get_backend(name) as client:
    result = client.generate("thumbnail", image=picture, side=32, output_path=place)
    print(*image_size(result.path.read_bytes()), result.backend)
"""
USER = """
from backend import ThumbnailParams, get_async_backend, get_backend

arguments: ThumbnailParams = {"image": "a.png", "side": 32}
seed: int | None = get_backend().thumbnail(**arguments).seed
get_backend().submit("thumbnail", image="a.png")
get_backend().thumbnail(image="a.png", width=3)
"""


class Checkout:
    """A copy of the product with one file more, as after a contributor's first save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tasks.py", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "docs", folder / "docs")
        (folder / "backend/verbs/thumbnail.py").write_text(VERB.lstrip())

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program on the copy."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **env},
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.mark.slow
def test_the_contract_the_worker_and_mcp_have_it(checkout):
    """Types, bounds, defaults, other names of fields: all from the one declaration."""
    done = checkout.run("-c", DECLARED)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert found["contract"] is True
    assert found["worker"] == {"image": "avatars/odin.png", "side": 32}
    assert found["tool"].startswith("Make a small copy of a picture, as a PNG file.")
    properties = found["schema"]["properties"]
    assert found["schema"]["required"] == ["image"]
    assert {name: properties["side"][name] for name in ("type", "minimum", "maximum", "default")} == {
        "type": "integer", "minimum": 16, "maximum": 512, "default": 64,
    }  # fmt: skip


@pytest.mark.slow
def test_the_command_line_has_it(checkout):
    """It is listed, explained and checked like any other."""
    listed = checkout.run("-m", "ops.commands.inv", "--list").stdout
    explained = checkout.run("-m", "ops.commands.inv", "generate.thumbnail", "--help").stdout
    refused = checkout.run("-m", "ops.commands.inv", "generate.thumbnail", "a.png", "--side", "8")

    assert "generate.thumbnail" in listed
    assert "Width and height in pixels. From 16 to 512. Default: 64." in " ".join(explained.split())
    assert refused.returncode == 2
    assert "side must be from 16 to 512, got 8" in refused.stderr


@pytest.mark.slow
def test_it_runs_on_a_comfyui_and_on_runpod(checkout, tmp_path, monkeypatch):
    """The same call on a local ComfyUI and as a job of a worker, which finds the verb in the same file."""
    picture = tmp_path / "odin.png"
    # The emulator hands this on to its workers.
    monkeypatch.setenv("PYTHONPATH", str(checkout.folder))
    with running_emulator(tmp_path / "emulator", images=IMAGES) as emu:
        studio = Studio(emu, "comfyform/worker")
        env = emu.env | {
            "RUNPOD_ENDPOINT_ID": studio.endpoint_id, "COMFYFORM_STATE_DIR": str(tmp_path / "state"),
        }  # fmt: skip
        Image.new("RGB", (80, 60), "navy").save(picture)
        answers = {}
        for backend in ("local", "runpod"):
            done = checkout.run(
                "-c", GENERATE, str(picture), str(tmp_path / f"{backend}.png"), backend, **env
            )
            assert done.returncode == 0, done.stderr
            answers[backend] = done.stdout.split()
        (job_input,) = emu.submitted().values()

    assert answers == {"local": ["32", "32", "local"], "runpod": ["32", "32", "runpod"]}
    assert (job_input["action"], job_input["side"]) == ("thumbnail", 32)


@pytest.mark.slow
def test_the_typed_method_is_written_by_inv_docs(checkout):
    """`./inv check` asks for it, `./inv docs` writes it, and a user's type checker sees it."""
    assert checkout.run("-m", "tools.docs", "--check").returncode == 1
    assert checkout.run("-m", "tools.docs").returncode == 0
    assert checkout.run("-m", "tools.docs", "--check").returncode == 0
    (checkout.folder / "user.py").write_text(USER)

    done = checkout.run("-m", "mypy", "--strict", "user.py")

    (problem,) = [line for line in done.stdout.splitlines() if "user.py" in line and "error:" in line]
    assert 'user.py:7: error: Unexpected keyword argument "width" for "thumbnail"' in problem
    assert "## `./inv generate.thumbnail`" in (checkout.folder / "docs/cli.md").read_text()
