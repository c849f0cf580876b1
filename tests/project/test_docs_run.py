"""Pages that need no deployment, run from top to bottom."""

import subprocess
import sys
import tomllib

import pytest
import yaml

import backend
from backend.client.factory import ENTRY_POINTS
from tests.support.pages import ROOT, Shell, blocks

TEST_OF_A_USER = """
import os, urllib.request

def test_the_emulator_answers():
    key = {"Authorization": "Bearer " + os.environ["RUNPOD_API_KEY"]}
    address = os.environ["RUNPOD_REST_URL"] + "/serverless"
    assert urllib.request.urlopen(urllib.request.Request(address, headers=key)).status == 200
"""


@pytest.fixture
def shell(tmp_path):
    """A shell in an empty folder; what it started is ended."""
    (tmp_path / "here").mkdir()
    (tmp_path / "scratch").mkdir()
    shell = Shell(tmp_path / "here", tmp_path / "scratch", {})
    yield shell
    shell.end_jobs()


@pytest.mark.slow
def test_the_emulator_page_works_from_top_to_bottom(shell):
    """Its worker, started by its command, answers its program; its CI steps leave an emulator for pytest."""
    worker, client = blocks("emulator", "python")
    (start,) = blocks("emulator", "sh")
    (shell.folder / "worker.py").write_text(worker)

    shell.run(start)
    answer = shell.python(client)
    shell.end_jobs()

    assert answer.splitlines()[-1] == "HELLO"

    (steps,) = [yaml.safe_load(block) for block in blocks("emulator", "yaml")]
    (shell.folder / "test_mine.py").write_text(TEST_OF_A_USER)
    (shell.folder / "runpod.env").unlink()
    shell.env |= {"RUNNER_TEMP": str(shell.folder), "GITHUB_ENV": str(shell.folder / "github.env")}
    for step in steps:
        output = shell.run(step["run"])
        # As the runner does between steps.
        pairs = (shell.folder / "github.env").read_text().splitlines()
        shell.env |= dict(pair.split("=", 1) for pair in pairs)

    assert "1 passed" in output


def test_the_backend_of_the_page_is_one(monkeypatch):
    """The class runs as it stands, is known by the name it registers, and its entry point is in our group."""
    skeleton, registering = blocks("add-a-backend", "python")
    (package,) = blocks("add-a-backend", "toml")
    monkeypatch.setattr("backend.client.factory._registered", {})
    names: dict[str, object] = {}

    exec(skeleton, names)
    exec(registering, names)

    with backend.get_backend("gallery") as gallery:
        assert gallery.name == "gallery"
    assert list(tomllib.loads(package)["project"]["entry-points"]) == [ENTRY_POINTS]


@pytest.mark.slow
def test_the_commands_of_contributors_run():
    """`check` and `--list` succeed here and now; `demo` and all kinds of `test` are runs of their own."""
    (commands,) = blocks("CONTRIBUTING", "sh")
    (front,) = blocks("README", "sh")
    lines = [line.split("#")[0].strip() for line in commands.splitlines()]
    elsewhere = {line.split("#")[0].strip() for line in front.splitlines()}

    here = [line for line in lines if line not in elsewhere and not line.startswith("./inv test ")]

    assert here == ["./inv check", "./inv --list"]
    for line in here:
        command = [sys.executable, "-m", "ops.commands.inv", *line.split()[1:]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
