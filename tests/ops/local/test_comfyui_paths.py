"""Which folders a ComfyUI reads its models from, by its own word and by an extra_model_paths.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.errors import RegistryError
from ops.local.comfyui_paths import find, read_answer, with_extra
from ops.local.scan import Root, scan
from tests.support.ops_places import put, told

MODELS = Path("/c/models")


@pytest.mark.parametrize(
    ("answer", "roots"),
    [
        pytest.param(
            told(
                checkpoints=["/c/models/checkpoints", "/c/output/checkpoints"],
                text_encoders=["/c/models/text_encoders", "/c/models/clip", "/c/output/clip"],
                sonic=["/c/models/sonic"],
            ),
            (
                Root(MODELS),
                Root(Path("/c/output/checkpoints"), "checkpoints"),
                Root(Path("/c/output/clip"), "text_encoders"),
            ),
            id="as recorded",
        ),
        pytest.param(
            told(
                checkpoints=["/nas/ckpt", "/c/models/checkpoints", "/more"],
                loras=["/c/models/loras"],
                voices=["/nas/voices"],
            ),
            (
                Root(Path("/nas/ckpt"), "checkpoints"),
                Root(MODELS),
                Root(Path("/more"), "checkpoints"),
                Root(Path("/nas/voices"), "voices"),
            ),
            id="before and after",
        ),
        pytest.param(
            told(
                diffusion_models=["/c/models/unet", "/nas/unet"],
                unet_gguf=["/c/models/unet", "/nas/unet", "/nas/unet/more"],
            ),
            (Root(MODELS), Root(Path("/nas/unet"), "diffusion_models")),
            id="one folder of two categories",
        ),
        pytest.param(
            told(
                vae=["/c/models/vae"],
                custom_nodes=["/c/custom_nodes"],
                datasets=["/c/datasets"],
                everything=["/", "/c"],
            ),
            (Root(MODELS),),
            id="no models, and folders around them",
        ),
        pytest.param(
            told(
                vae=["/c/models/vae"],
                motion=["/c/custom_nodes/motion/models", "/c/models/motion"],
                video_formats=["/c/custom_nodes/video/formats"],
            ),
            (Root(Path("/c/custom_nodes/motion/models"), "motion"), Root(MODELS)),
            id="what a pack brings along",
        ),
        pytest.param(
            [{"name": "vae", "folders": ["/c/models/../models/vae", "relative/vae", "C:\\models\\vae"]}],
            (Root(MODELS),),
            id="without extensions, and not of this system",
        ),
    ],
)
def test_an_answer_is_the_models_folder_and_what_lies_elsewhere(answer: Any, roots: tuple[Root, ...]):
    """The models folder is taken whole; folders outside keep their category and their place in the order."""
    assert read_answer(answer) == roots


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        [],
        "models",
        ["checkpoints"],
        [{"name": "vae"}],
        [{"name": "vae", "folders": "/c/models/vae"}],
        [{"name": 1, "folders": []}],
        [{"name": "vae", "folders": [3]}],
        told(vae=[]),
        told(vae=["C:\\ComfyUI\\models\\vae"]),
        told(vae=["/vae"]),
        told(vae=["/nas/odd"]),
    ],
)
def test_what_is_no_such_answer_is_refused(answer: Any):
    """Neither another shape nor one that names no models folder makes folders to scan."""
    with pytest.raises(ValueError, match="it "):
        read_answer(answer)


def test_a_path_is_looked_for_in_every_folder_of_its_category(tmp_path: Path):
    """The first folder wins, a category may go by either name, and no folder serves another category."""
    models, nas = tmp_path / "models", tmp_path / "nas"
    roots = [Root(nas / "first", "loras"), Root(models), Root(nas / "later", "text_encoders")]
    both = put(nas / "first/both.pt")
    for path in ("loras/both.pt", "loras/mine.pt", "clip/a.pt", "clip/two.pt", "text_encoders/two.pt"):
        put(models / path)
    put(models / "loose.bin")
    put(nas / "later/b.pt")

    assert {
        path: find(roots, path)
        for path in (
            *("loras/both.pt", "loras/mine.pt", "text_encoders/a.pt", "clip/a.pt", "clip/two.pt"),
            *("text_encoders/two.pt", "clip/b.pt", "loose.bin", "vae/b.pt", "loras", "loras/none.pt"),
        )
    } == {
        "loras/both.pt": both,
        "loras/mine.pt": models / "loras/mine.pt",
        "text_encoders/a.pt": models / "clip/a.pt",
        "clip/a.pt": models / "clip/a.pt",
        "clip/two.pt": models / "clip/two.pt",
        "text_encoders/two.pt": models / "text_encoders/two.pt",
        "clip/b.pt": nas / "later/b.pt",
        "loose.bin": models / "loose.bin",
        "vae/b.pt": None,
        "loras": None,
        "loras/none.pt": None,
    }


def test_extra_model_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sections with a base, defaults first, several lines, aliases, variables; custom nodes are no models."""
    monkeypatch.setenv("NAS", str(tmp_path / "nas"))
    put(tmp_path / "models/checkpoints/same.safetensors", b"own")
    put(tmp_path / "nas/ckpt/same.safetensors", b"default")
    put(tmp_path / "a/more.safetensors")
    put(tmp_path / "b/clip_l.safetensors")
    put(tmp_path / "nodes/x.pth")
    extra = put(
        tmp_path / "extra_model_paths.yaml",
        b"""
nas:
  base_path: $NAS
  is_default: true
  checkpoints: ckpt
others:
  base_path: .
  checkpoints: |
    a
    missing
  clip: b
  custom_nodes: nodes
empty:
""",
    )

    found = scan(with_extra([Root(tmp_path / "models")], extra))

    assert [file.path for file in found.files] == [
        "models/checkpoints/more.safetensors",
        "models/checkpoints/same.safetensors",
        "models/text_encoders/clip_l.safetensors",
    ]
    assert Path(found.files[1].location).read_bytes() == b"default"


@pytest.mark.parametrize("text", [b"- a", b"a: [b]\nc: {checkpoints: [x]}", b"a: {"])
def test_broken_extra_paths_are_named(tmp_path: Path, text: bytes):
    """A file that ComfyUI would stumble over is one error."""
    with pytest.raises(RegistryError, match="yaml has"):
        with_extra([], put(tmp_path / "extra.yaml", text))
