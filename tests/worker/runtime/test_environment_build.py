"""What the builder makes of locks and pins: sources from git, records, keys. No package index."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from backend.errors import InvalidArgument, TransferError
from ops.runtime.environment_key import environment_key, read_sources
from worker.runtime.environment_build import EnvironmentBuilder, python_version
from worker.runtime.runtime_store import RuntimeStore

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow


def repository(folder: Path, files: dict[str, str]) -> str:
    """Make a git repository, and return its commit."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    return git("rev-parse", "HEAD")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The worker's code, with pins of a small ComfyUI and one pack, and without packages."""
    result = tmp_path / "code"
    result.mkdir()
    for name in ("backend", "ops"):
        (result / name).symlink_to(ROOT / name)
    (result / "worker").mkdir()
    for path in (ROOT / "worker").iterdir():
        if path.name not in {"comfyui.toml", "comfyui.lock", "cuda.lock"}:
            (result / "worker" / path.name).symlink_to(path)
    core = repository(tmp_path / "git/org/ComfyUI", {"main.py": "print(1)\n"})
    pack = repository(tmp_path / "git/org/Pack", {"__init__.py": "x = 1\n"})
    (result / "worker/comfyui.toml").write_text(
        f'[comfyui]\nversion = "1"\nrepository = "https://github.com/org/ComfyUI"\ncommit = "{core}"\n'
        f'[packs.Pack]\nrepository = "https://github.com/org/Pack"\ncommit = "{pack}"\n'
        '[base]\ntorch = "2.9.1"\n'
    )
    return result


def test_a_generation_environment_has_comfyui_and_its_packs(code: Path, tmp_path: Path) -> None:
    """Each at its commit, without git's folder, compiled; a damaged archive is built again."""
    store = RuntimeStore(tmp_path / "runtime")
    environ = {"PATH": os.environ["PATH"], "COMFYFORM_SOURCES_URL": f"file://{tmp_path}/git/"}
    builder = EnvironmentBuilder(code, store, environ)
    key = environment_key("generation", read_sources("generation", code), "python:3.12")
    phases: list[str] = []

    def build() -> dict[str, object]:
        report = lambda event: phases.append(event["phase"])  # noqa: E731 - one expression
        return dict(builder.build("generation", key, "python:3.12", report))

    record = build()

    names = subprocess.run(
        ["tar", "-tf", store.environment(key) / str(record["archive"])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"ComfyUI/main.py", "ComfyUI/custom_nodes/Pack/__init__.py", "ComfyUI/no-frontend/README"} <= set(
        names
    )
    assert any(name.startswith("ComfyUI/__pycache__/main.") for name in names)
    assert not [name for name in names if "/.git/" in name]
    assert (record["torch"], record["python"]) == ("2.9.1", python_version())
    assert phases == ["verify", "sources", "compile", "try", "pack", "done"]

    assert build() == record
    assert phases[6:] == ["verify"]
    path = store.environment(key) / str(record["archive"])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert build()["sha256"] == record["sha256"]
    assert store.verified(key) is not None


def test_an_unknown_commit_is_named(code: Path, tmp_path: Path) -> None:
    """git's own words are in the error, and nothing is recorded."""
    toml = code / "worker/comfyui.toml"
    toml.write_text(toml.read_text().replace("https://github.com/org/Pack", "https://github.com/org/Absent"))
    store = RuntimeStore(tmp_path / "runtime")
    environ = {"PATH": os.environ["PATH"], "COMFYFORM_SOURCES_URL": f"file://{tmp_path}/git/"}
    key = environment_key("generation", read_sources("generation", code), "x")

    with pytest.raises(
        TransferError, match=r"git \(Pack\) failed(.|\n)*does not appear to be a git repository"
    ):
        EnvironmentBuilder(code, store, environ).build("generation", key, "x", lambda _: None)

    assert store.record(key) is None


def test_the_key_covers_locks_kind_and_base(code: Path, tmp_path: Path) -> None:
    """Each of them gives another key, and a builder refuses a key that is not its own."""
    sources = read_sources("generation", code)
    key = environment_key("generation", sources, "x")

    assert key == environment_key("generation", dict(reversed(sources.items())), "x")
    assert key != environment_key("generation", sources, "y")
    assert key != environment_key("generation", {**sources, "worker/comfyui.lock": b"a==1"}, "x")
    with pytest.raises(InvalidArgument, match="Unknown environment 'other'"):
        environment_key("other", {}, "x")
    builder = EnvironmentBuilder(code, RuntimeStore(tmp_path), {"PATH": os.environ["PATH"]})
    with pytest.raises(InvalidArgument, match="another version: "):
        builder.build("generation", key, "y", lambda _: None)


def test_a_build_sees_no_secret(code: Path, tmp_path: Path) -> None:
    """Only what pip needs to reach its index is passed on."""
    environ = {"RUNPOD_AI_API_KEY": "secret", "HF_TOKEN": "secret", "PIP_INDEX_URL": "x", "PATH": "/bin"}

    assert EnvironmentBuilder(code, RuntimeStore(tmp_path), environ).environ == {
        "PIP_INDEX_URL": "x",
        "PATH": "/bin",
    }
