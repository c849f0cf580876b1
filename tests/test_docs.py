"""The pages are true: their commands run, in order, in a clone of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tasks

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
WALK = ("first-deployment", "models", "runtime")
"""Pages that are walked one after the other in one shell, as a reader would."""
CONFIG = """
config:
  comfyform:data_center: EU-RO-1
  comfyform:volume_gb: 50
  comfyform:gpu_pools: [ADA_24, AMPERE_24]
  comfyform:worker_image: comfyform/worker
  comfyform:ops_image: comfyform/ops
  comfyform:budget_usd_per_month: 10
  comfyform:budget_usd_per_hour: 5
"""


def blocks(page: Path, language: str) -> list[str]:
    """Give the code blocks of a page in one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def clone(folder: Path) -> Path:
    """Copy what is committed or will be, with the small registry in the place of the large one."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name in ("models-registry.yaml", "models-registry.lock.yaml"):
        shutil.copy(ROOT / "examples" / "demo" / name, folder / name)
    (folder / "Pulumi.dev.yaml").write_text(CONFIG)
    # The environment is there already; everything else of `inv` is as a user has it.
    (folder / "inv").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ops.program "$@"\n')
    return folder


@pytest.mark.slow
def test_a_newcomer_can_follow_the_pages(emu, tmp_path):
    """Every `sh` block of the deployment, models and runtime pages runs, in order, without an error."""
    project = clone(tmp_path / "comfyform")
    script = "\n".join(block for page in WALK for block in blocks(ROOT / "docs" / f"{page}.md", "sh"))
    models = emu.root / "comfyui" / "models" / "checkpoints"
    lines = [
        "set -eux",
        script,
        # Afterwards everything can be taken down again, once the volume is no longer protected.
        "sed -i 's/^config:/config:\\n  comfyform:protect_volume: false/' Pulumi.dev.yaml",
        "./inv stack.up --yes",
        "./inv stack.down --yes",
    ]
    state = tmp_path / "state"
    state.mkdir()
    env = {
        **os.environ,
        **emu.env,
        "PYTHONPATH": str(project),
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_HOME": str(tmp_path / "home"),
        "COMFYFORM_STATE_DIR": str(tmp_path / "journal"),
        "COMFYUI_MODELS_DIR": str(models.parent),
    }

    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        cwd=project,
        env=env,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    assert (project / "odin.png").read_bytes().startswith(b"\x89PNG")
    assert emu.rest("GET", "/network-volumes").json() == {"networkVolumes": []}
    assert emu.rest("GET", "/serverless").json() == {"endpoints": []}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_task_that_a_page_names_is_there(page):
    """A page names no task and no option that does not exist."""
    found = re.findall(
        r"(?:\./inv|`inv) ([a-z][\w.-]*)((?: --[a-z][\w-]*)*)", page.read_text(encoding="utf-8")
    )
    known = {
        name: {flag for a in tasks.namespace[name].get_arguments() for flag in a.names}
        for name in tasks.namespace.task_names
    }

    assert [name for name, _ in found if name not in known and not name.endswith(".")] == []
    wrong = [
        f"{name} {option}"
        for name, options in found
        for option in re.findall(r"--([a-z][\w-]*)", options)
        if option.replace("-", "_") not in known.get(name, ())
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_between_pages_leads_somewhere(page):
    """A relative link names a file that is there."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_python_block_is_python(page):
    """A Python block parses."""
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
