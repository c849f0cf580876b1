"""The demo, as a user runs it: a process, the real engine, the real worker."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo.runpod import start
from tests.support.echo_endpoint import endpoint
from tests.support.emulation import Emulator, until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TASK = "demo"
"""What the README tells to run."""


def demo(home: Path) -> subprocess.Popen[str]:
    """Start the demo in a session of its own, with its folder at `home`."""
    return subprocess.Popen(
        [sys.executable, "-m", "ops.commands.inv", TASK, "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def processes_of(home: Path) -> list[str]:
    """Return the command lines of all processes that work in `home`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                words += str((entry / "cwd").readlink()).encode()
            except OSError:
                continue
            if str(home).encode() in words:
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_the_demo_tells_its_story_and_leaves_nothing(tmp_path):
    """Deploy, verify, two portraits, drift, mend, page, destroy: exit 0, pictures, no process, no lock."""
    home = tmp_path / "demo"
    with demo(home) as process:
        assert process.stdout is not None
        output = process.stdout.read()

    assert process.returncode == 0, output
    pictures = sorted(path.name for path in (home / "pictures").iterdir())
    assert pictures == ["odin-local.png", "odin-runpod.png"]
    for path in (home / "pictures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert "data:image/png;base64," in (home / "report.html").read_text()
    assert "RunPod has no volume, template or endpoint" in re.sub(r"\s*│\s*│[\s│]*", " ", output)
    assert processes_of(home) == []
    assert list((home / "state").rglob("locks/**/*.json")) == []


def test_ctrl_c_in_the_middle_leaves_no_process_and_no_lock(tmp_path):
    """Ctrl-C while models are on their way: exit 130, one sentence, nothing left running."""
    home = tmp_path / "demo"
    with demo(home) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Model" in line and "creating" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()

    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert rest.rstrip().endswith("Stopped. Run the same command again to go on.")
    assert processes_of(home) == []
    assert list((home / "state").rglob("locks/**/*.json")) == []


def test_a_worker_that_cannot_start_is_seen_in_the_story(tmp_path, monkeypatch, capsys):
    """What the emulator complains of is on the demo's stderr while the story waits for the worker."""
    (tmp_path / "runpod.py").write_text("raise ImportError('no SDK')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = start(tmp_path / "demo")
    try:
        emu = Emulator(server.process, server.environment, server.folder)
        endpoint(emu, name="comfyform-demo-ops", image="comfyform/ops", workers={"min": 1, "max": 1})
        message = ""

        def all_said() -> bool:
            nonlocal message
            message += capsys.readouterr().err
            return "ImportError: no SDK" in message

        until(all_said)
        emu.close()
    finally:
        server.stop()

    assert re.match(r"emulator: worker \w+ of endpoint 'comfyform-demo-ops' .* exit status 1 .*", message)


def test_the_demo_empties_no_folder_but_its_own(tmp_path):
    """A folder with somebody's files is refused, with exit code 2, and untouched."""
    (tmp_path / "thesis.txt").write_text("years of work")

    with demo(tmp_path) as process:
        assert process.stdout is not None
        output = process.stdout.read()

    assert process.returncode == 2
    assert "is not empty and not a demo's folder" in output
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
