"""The example of somebody else's program runs as it is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra.engine.pulumi_project import CHECKOUT
from infra.naming import is_named_after
from tests.support.emulation import Emulator
from tests.support.pulumi_project import Project

pytestmark = pytest.mark.slow


def test_the_second_environment_comes_up_and_goes(emu: Emulator, tmp_path: Path) -> None:
    """Resources and the component are used by import, in a project of another name."""
    root = tmp_path / "project"
    infra = Project(root, emu)
    shutil.rmtree(root)
    shutil.copytree(CHECKOUT / "examples" / "second_environment", root)
    (root / "pulumi" / "stacks").mkdir(parents=True)
    infra.pulumi("stack", "init", "test")

    infra.up()

    outputs = infra.outputs()
    (speech,) = [each for each in emu.state()["endpoints"] if each["type"] == "LOAD_BALANCER"]
    assert is_named_after(speech["name"], "studio-test-speech")
    assert speech["env"]["HF_TOKEN"] == "{{ RUNPOD_SECRET_hf }}"
    assert outputs["speech_url"] == speech["requestUrls"]["base"]
    assert outputs["backend_env"]["COMFY_BACKEND"] == "runpod"
    infra.up("--expect-no-changes")
    infra.pulumi("destroy", "--yes", "--skip-preview")
    assert emu.state()["endpoints"] == []
