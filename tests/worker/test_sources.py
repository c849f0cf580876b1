"""ComfyUI and its packs are cloned at their pins, by the program that the image's build runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import upstream_requirements
from worker import sources

IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    command = ["git", "-C", str(folder), *IDENTITY, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path, **files: str) -> str:
    """Make a repository with one commit of these files and return the commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "One")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """Three repositories: a core, a pack below it, and the pack's submodule."""
    # Git trusts no submodule from a local folder by default.
    for number, (key, value) in enumerate({"protocol.file.allow": "always"}.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    model = tmp_path / "model"
    repository(model, README__md="the submodule")
    pack = tmp_path / "pack"
    repository(pack, requirements__txt="vocos\n")
    git(pack, "submodule", "--quiet", "add", str(model), "Model")
    git(pack, "commit", "--quiet", "--message", "With the submodule")
    core = tmp_path / "core"
    old = repository(core, comfyui_version__py='__version__ = "1.0.0"\n', requirements__txt="torch\n")
    (core / "requirements.txt").write_text("torch\nnewer\n")
    git(core, "commit", "--quiet", "--all", "--message", "Two")
    return {
        "comfyui": {"version": "1.0.0", "repository": str(core), "commit": old},
        "packs": {"Pack": {"repository": str(pack), "commit": git(pack, "rev-parse", "HEAD")}},
        "packages": {"left_out": {}},
    }


@pytest.mark.slow
def test_the_pinned_commits_are_cloned_with_their_submodules(tmp_path, upstream):
    """An older commit than the newest one, packs below custom_nodes, submodules with their files."""
    target = tmp_path / "ComfyUI"
    for source in sources.sources(upstream):
        sources.fetch(source, target / source.folder)

    assert (target / "requirements.txt").read_text() == "torch\n"
    assert (target / "custom_nodes/Pack/Model/README.md").read_text() == "the submodule"


@pytest.mark.slow
def test_the_program_refuses_a_commit_of_another_version(tmp_path, upstream):
    """The build must not go on with a ComfyUI that is not the one the pins name."""
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "sources.py").write_text(Path(sources.__file__).read_text())
    core, pack = upstream["comfyui"], upstream["packs"]["Pack"]
    (folder / "comfyui.toml").write_text(
        f'[comfyui]\nversion = "2.0.0"\nrepository = "{core["repository"]}"\ncommit = "{core["commit"]}"\n'
        f'[packs.Pack]\nrepository = "{pack["repository"]}"\ncommit = "{pack["commit"]}"\n'
    )

    command = [sys.executable, "sources.py", str(tmp_path / "ComfyUI")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert f'commit {core["commit"]} is not ComfyUI "2.0.0"' in done.stderr


@pytest.mark.slow
def test_requirements_are_read_at_the_pinned_commit(upstream):
    """Not those of the newest commit; a commit that does not exist is an error with the way out."""
    source = sources.sources(upstream)[0]

    assert upstream_requirements.stated(source, "1.0.0", None) == "torch\n"
    with pytest.raises(SystemExit, match=r"Cannot fetch the requirements of ComfyUI.*--comfyui-dir DIR"):
        upstream_requirements.stated(source._replace(commit="0" * 40), "1.0.0", None)
