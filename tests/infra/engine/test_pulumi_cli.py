"""Getting a Pulumi CLI: which way is taken, what is said, and what is left alone."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from infra.engine import pulumi_cli, pulumi_install
from infra.engine.pulumi_cli import NoPulumi, Pulumi, environment, find, locate, run
from infra.engine.pulumi_install import BUILD_VERSION, TOOLS, WayFailed
from infra.engine.pulumi_project import Project
from infra.engine.stacks import Stack
from infra.engine.state_files import repair
from tests.support.deadlines import HANG_S


def cli(folder: Path, version: str = "3.259.0", body: str = "") -> Path:
    """Write a program that answers like a CLI."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pulumi"
    path.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo v{version} && exit 0\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Replace the two ways that reach out, by an outcome each: an error, or a version that is put there."""
    outcomes: dict[str, object] = {}

    def way(name: str) -> None:
        def take(folder: Path) -> None:
            outcome = outcomes.get(name, "no network")
            if outcome != "works":
                raise WayFailed(str(outcome))
            cli(folder / "bin")

        monkeypatch.setattr(pulumi_cli, name, take)

    way("install")
    way("build")
    return outcomes


def test_the_one_on_path_wins(tmp_path: Path, ways: dict[str, object]) -> None:
    """Somebody's own Pulumi is used as it is, and nothing is said."""
    program = cli(tmp_path / "bin")
    lines: list[str] = []

    found = find(say=lines.append, environ={"PATH": str(program.parent)}, cache=tmp_path / "cache")

    assert (found.program, found.version, found.way, lines) == (program, "3.259.0", "PATH", [])


def test_a_kept_one_is_used_again(tmp_path: Path, ways: dict[str, object]) -> None:
    """A second clone finds what the first one got."""
    remaining = cli(tmp_path / BUILD_VERSION / "bin")

    found = find(say=lambda _: None, environ={"PATH": ""}, cache=tmp_path)

    assert (found.program, found.way) == (remaining, "cache")
    assert locate({"PATH": ""}, tmp_path) == found


def test_each_failed_way_says_why(tmp_path: Path, ways: dict[str, object]) -> None:
    """Too old on PATH, no network, then a build that works: one line each, with the time it takes."""
    cli(tmp_path / "bin", version="2.1.0")
    ways["build"] = "works"
    lines: list[str] = []

    found = find(say=lines.append, environ={"PATH": str(tmp_path / "bin")}, cache=tmp_path / "cache")

    assert found.way == "build"
    assert "2.1.0; expected 3.200.0 or later of the same major version" in lines[0]
    assert "installer: no network" in lines[2]
    assert "about 3 minutes" in lines[3]
    assert locate({"PATH": ""}, tmp_path / "cache") is not None


def test_no_way_names_the_ways_out(tmp_path: Path, ways: dict[str, object]) -> None:
    """One error with every reason and three remedies."""
    ways["build"] = "`go` not found on PATH"

    with pytest.raises(NoPulumi) as caught:
        find(say=lambda _: None, environ={"PATH": ""}, cache=tmp_path)

    assert caught.value.exit_code == 2
    for part in (
        "`pulumi` not found",
        "no network",
        "`go` not found",
        "pulumi.com/docs/install",
        "get.pulumi.com",
        "Go 1.26",
    ):
        assert part in str(caught.value)


def test_two_do_not_build_twice(tmp_path: Path, ways: dict[str, object]) -> None:
    """Who waits for the lock uses what the other one made."""
    lock = FileLock(tmp_path / ".lock")
    lines: list[str] = []
    waiting = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        waiting.set()

    found: list[Pulumi] = []
    with lock:
        other = threading.Thread(
            target=lambda: found.append(find(say=say, environ={"PATH": ""}, cache=tmp_path))
        )
        other.start()
        assert waiting.wait(HANG_S)
        cli(tmp_path / BUILD_VERSION / "bin")
    other.join(HANG_S)

    assert [each.way for each in found] == ["cache"]
    assert "another process is installing it" in lines[0]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written aside: a broken build is never taken for a CLI, and old leftovers are swept."""
    go = cli(tmp_path / "bin")
    go.rename(go.with_name("go")).write_text("#!/bin/sh\necho 'go: no proxy' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "cache" / ".1-old").mkdir(parents=True)

    with pytest.raises(WayFailed, match="go: no proxy"):
        pulumi_install.build(tmp_path / "cache" / "1")

    assert list((tmp_path / "cache").iterdir()) == []


def test_an_installer_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official installer's failure is one line, and nothing is left."""

    def offline(*_: object, **__: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(WayFailed, match="Name or service not known"):
        pulumi_install.install(tmp_path / "cache" / "1")

    assert list((tmp_path / "cache").iterdir()) == []


def test_the_build_is_pinned() -> None:
    """The modules name the versions that the code stamps, and their checksums are there."""
    cli_module = (TOOLS / "pulumi" / "go.mod").read_text()
    host_module = (TOOLS / "pulumi-language-python" / "go.mod").read_text()

    assert f"pkg/v3 v{BUILD_VERSION}" in cli_module
    assert f"sdk/v3 v{pulumi_install.LANGUAGE_HOST_VERSION}" in host_module
    assert all((TOOLS / each / "go.sum").exists() for each in ("pulumi", "pulumi-language-python"))


def test_the_environment_is_ours_only_where_the_user_has_none(tmp_path: Path) -> None:
    """The interpreter's folder comes first; a backend or a passphrase of the user's stays."""
    there = Pulumi(tmp_path / "bin" / "pulumi", "3.259.0", "cache")

    ours = environment(there, {"PATH": "/usr/bin"}, data=tmp_path)
    theirs = environment(there, {"PULUMI_BACKEND_URL": "s3://x", "PULUMI_HOME": "/h"}, data=tmp_path)
    cloud = environment(there, {"PULUMI_ACCESS_TOKEN": "t"}, data=tmp_path)
    remaining = environment(there, {"PULUMI_CONFIG_PASSPHRASE": "mine"}, data=tmp_path)

    assert ours["PATH"].split(os.pathsep) == [
        str(Path(sys.executable).parent),
        str(tmp_path / "bin"),
        "/usr/bin",
    ]
    assert ours["PULUMI_BACKEND_URL"] == (tmp_path / "stacks").as_uri()
    assert (ours["PULUMI_CONFIG_PASSPHRASE"], remaining["PULUMI_CONFIG_PASSPHRASE"]) == ("", "mine")
    assert (theirs["PULUMI_BACKEND_URL"], theirs["PULUMI_HOME"]) == ("s3://x", "/h")
    assert "PULUMI_CONFIG_PASSPHRASE" not in theirs
    assert "PULUMI_BACKEND_URL" not in cloud


def test_run_gives_the_exit_code_and_the_words(tmp_path: Path) -> None:
    """A failure of the CLI is a value, not an exception."""
    program = cli(tmp_path / "bin", body='echo "out $2"; echo err >&2; exit 7')

    done = run(
        Pulumi(program, "3", "PATH"),
        ["up", "x"],
        environ={"PATH": os.defpath},
        project=tmp_path,
        capture=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (7, "out x\n", "err\n")


def test_locks_tell_the_living_from_the_dead(tmp_path: Path) -> None:
    """A lock of this machine whose process is gone is dead; one of another machine is never judged."""
    folder = tmp_path / ".pulumi" / "locks" / "organization" / "comfyform" / "dev"
    folder.mkdir(parents=True)
    dead = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(dead, 0)
    here = socket.gethostname()
    for name, pid, host in (("a", os.getpid(), here), ("b", dead, here), ("c", dead, f"not-{here}")):
        (folder / f"{name}.json").write_text(f'{{"pid": {pid}, "hostname": "{host}", "timestamp": "t"}}')
    (folder / "d.json").write_text("{")

    project = Project(tmp_path, "comfyform", tmp_path)
    stack = Stack("dev", Pulumi(Path("x"), "3", "PATH"), {"PULUMI_BACKEND_URL": tmp_path.as_uri()}, project)

    assert [lock.gone for lock in stack.locks()] == [False, True, False]
    assert replace(stack, environ={"PULUMI_BACKEND_URL": "s3://bucket"}).locks() == []
    assert replace(stack, project=replace(project, name="other")).locks() == []


STOPPED = """
import os
from pathlib import Path
from infra.engine.pulumi_cli import Pulumi, run

try:
    run(Pulumi(Path({program!r}), "3", "PATH"), ["up"], environ={environ!r}, project=Path({project!r}))
except (KeyboardInterrupt, BrokenPipeError) as error:
    print(type(error).__name__)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "raised"),
    [("kill -INT $PPID\nkill -INT $$", "KeyboardInterrupt"), ("kill -PIPE $$", "BrokenPipeError")],
)
def test_a_cli_that_a_signal_kills_leaves_no_lock(tmp_path: Path, end: str, raised: str) -> None:
    """It dies of Ctrl-C between preview and update, and of a reader that leaves; others' locks stay."""
    folder = tmp_path / ".pulumi" / "locks" / "organization" / "comfyform" / "dev"
    folder.mkdir(parents=True)
    (folder / "other.json").write_text(f'{{"pid": {os.getpid()}, "hostname": "{socket.gethostname()}"}}')
    lock = f'{{"pid": %d, "hostname": "{socket.gethostname()}"}}'
    body = f"printf '{lock}' $$ > '{folder}/mine.json'\n: > '{folder}/mine.json.attrs'\n"
    program = cli(tmp_path / "bin", body=f"{body}{end}\nsleep 20")
    environ = {"PATH": os.defpath, "PULUMI_BACKEND_URL": tmp_path.as_uri()}
    script = STOPPED.format(program=str(program), environ=environ, project=str(tmp_path))

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S)

    assert (done.stdout, done.stderr) == (f"{raised}\n", "")
    assert [path.name for path in folder.iterdir()] == ["other.json"]


@pytest.mark.parametrize(
    ("broken", "remaining"),
    [
        ({}, "new"),
        ({"dev.json.attrs": ""}, "new"),
        ({"dev.json": '{"a'}, "old"),
        ({"dev.json": "", "dev.json.attrs": ""}, "old"),
        ({"dev.json": "", "dev.json.bak": ""}, ""),
    ],
)
def test_a_half_written_state_goes_back_to_a_whole_one(
    tmp_path: Path, broken: dict[str, str], remaining: str
) -> None:
    """Whole files stay; cut-off attributes go; a cut-off checkpoint becomes the whole one before it."""
    folder = tmp_path / "stacks" / "comfyform"
    folder.mkdir(parents=True)
    whole = {"dev.json": '"new"', "dev.json.bak": '"old"', "dev.json.attrs": "{}"}
    for name, text in {**whole, **broken}.items():
        (folder / name).write_text(text)

    message = repair(tmp_path, "comfyform", "dev")

    assert (folder / "dev.json").read_text().strip('"') == remaining
    assert (folder / "dev.json.attrs").exists() == ("dev.json.attrs" not in broken)
    assert bool(message) == (bool(broken) and remaining != "")
    assert repair(tmp_path, "comfyform", "dev") == []
    assert repair(None, "comfyform", "dev") == []
