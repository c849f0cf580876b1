"""The node definitions that a worker leaves on the volume: only when they are the whole truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backend.comfyui.node_definitions import NodeDefinitions, definitions_path
from tests.support.comfyui_program import ComfyUI, running_comfyui
from worker.comfyui.directories import Folders
from worker.comfyui.publish_node_definitions import leave
from worker.jobs.cancellation import StopSign

STARTED = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("comfyui")) as program:
        yield program


class FailedImports:
    """A process of which only one thing is asked."""

    def __init__(self) -> None:
        self.failed_imports: dict[str, str] = {}


class AtRest:
    """A studio whose ComfyUI is ready and has nothing to do."""

    def __init__(self, url: str, folder: Path) -> None:
        self.volume = folder / "volume"
        self.volume.mkdir()
        self.folders = Folders.make(folder)
        self.comfyui = FailedImports()
        self._url = url

    @contextmanager
    def at_rest(self, _: StopSign) -> Iterator[str]:
        yield self._url


@pytest.fixture
def studio(comfyui: ComfyUI, tmp_path: Path) -> Iterator[AtRest]:
    studio = AtRest(comfyui.url, tmp_path)
    yield studio
    studio.folders.remove()


def left(studio: Any) -> NodeDefinitions | None:
    """Leave definitions and read what is there."""
    leave(studio, "ep1", "0.1.0", STARTED, StopSign())
    path = studio.volume / definitions_path("ep1")
    return NodeDefinitions.from_bytes(path.read_bytes()) if path.is_file() else None


@pytest.mark.slow
def test_they_are_left_whole(comfyui, studio):
    """Every node as ComfyUI tells it, and whose they are."""
    found = left(studio)

    assert found is not None
    assert found.object_info == comfyui.http.get("/object_info").json()
    assert (found.started_at, found.worker_version) == (STARTED, "0.1.0")


def test_a_module_that_failed_to_import_is_named_with_the_nodes_that_did_load(studio, caplog):
    """One optional extra does not switch off the check of everything else."""
    studio.comfyui.failed_imports = {"nodes_glsl": "ModuleNotFoundError: No module named 'comfy_angle'"}

    found = left(studio)

    assert found is not None
    assert found.failed_imports == studio.comfyui.failed_imports
    assert "KSampler" in found.object_info
    assert "nodes_glsl could not be imported: ModuleNotFoundError" in caplog.text


def test_packs_on_the_volume_are_not_the_endpoints(studio):
    """They change without a release of the endpoint."""
    (studio.volume / "models" / "custom_nodes").mkdir(parents=True)

    assert left(studio) is None


def test_a_worker_without_a_volume_leaves_none(studio):
    """And does not make one up."""
    studio.volume.rmdir()

    assert left(studio) is None
    assert not studio.volume.exists()
