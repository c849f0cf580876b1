"""Models and what is there already, on the real engine: a volume that pods filled, and imported models."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.commands import import_models
from tests.support.emulation import Emulator
from tests.support.ops_places import Served, put, safetensors, settings_of
from tests.support.pod_volume import PLACES, REPLACED_FILE, fetches, fill
from tests.support.pulumi_project import Project, project

pytestmark = pytest.mark.slow


@pytest.fixture
def infra(emu: Emulator, tmp_path: Path) -> Iterator[Project]:
    with project(tmp_path / "project", emu) as stack:
        yield stack


def entries(served: dict[str, Served]) -> str:
    """Return a registry of one model with these files."""
    files = [
        {"path": path, "source": one.source, "size_bytes": one.size_bytes, "sha256": one.sha256}
        for path, one in served.items()
    ]
    return f"required:\n  adopted:\n    license: mit\n    files: {json.dumps(files, ensure_ascii=False)}\n"


def test_up_adopts_a_volume_that_pods_filled(infra: Project, emu: Emulator) -> None:
    """What the pod has is moved or kept, never fetched; what it has under a wanted name is set aside."""
    volume = {"name": "mine", "size": 50, "dataCenter": "EU-RO-1"}
    volume_id = str(emu.rest("POST", "/network-volumes", volume).json()["id"])
    pod = fill(emu, emu.volume_dir(volume_id))
    (infra.root / "models-registry.yaml").write_text(entries(pod.served))
    infra.configure(adopt_volume=volume_id, volume_gb="50")
    before = {path: fetches(emu, served) for path, served in pod.served.items()}

    output = infra.up().stdout

    for path, place in PLACES.items():
        assert fetches(emu, pod.served[path]) == before[path]
        if place != f"models/{path}":
            assert f"Moved from {place}; nothing was fetched." in output
    assert f"It is kept as .comfyform/replaced/models/{REPLACED_FILE}." in output
    pod.check_intact()
    infra.up("--expect-no-changes")


def test_up_fetches_no_imported_model_from_this_machine(
    infra: Project, emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """40 models of this machine are found at Hugging Face and CivitAI, and the worker fetches all of them."""
    contents: dict[str, bytes] = {}
    for number in range(20):
        hub, civitai = (safetensors(500 + number, seed=number + more) for more in (0, 100))
        contents |= {f"loras/hub {number:02}.safetensors": hub, f"vae/{number:02}.safetensors": civitai}
        emu.control(
            "POST",
            "/hub/files",
            {"repo": "me/my-models", "path": f"{number}.safetensors", "content_b64": _base64(hub)},
        )
        emu.control(
            "POST",
            "/civitai/versions",
            {"id": 710_000 + number, "filename": "x.safetensors", "content_b64": _base64(civitai)},
        )
    for path, content in contents.items():
        put(tmp_path / "models" / path, content)
    registry = infra.root / "models-registry.yaml"
    registry.unlink()
    settings = settings_of(
        emu, COMFYFORM_STATE_DIR=str(tmp_path / "state"), COMFYUI_MODELS_DIR=str(tmp_path / "models")
    )

    import_models.import_(
        hf_repos="me/my-models", required=True, yes=True, registry=str(registry), settings=settings
    )
    for path in contents:
        (tmp_path / "models" / path).unlink()
    infra.up()

    root = emu.volume_dir(infra.outputs()["volume_id"]) / "models"
    assert {path: (root / path).read_bytes() for path in contents} == contents
    assert emu.requests("PUT", "/s3/*") == []
    assert "local:" not in registry.read_text()
    assert "40 new models" in capsys.readouterr().err


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
