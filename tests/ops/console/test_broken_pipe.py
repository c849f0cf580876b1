"""Whoever reads a program's output may have enough of it, as in `./inv --list | head`: nobody's error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadlines import HANG_S

ROOT = Path(__file__).resolve().parents[3]
INV = f"ops.commands.inv --search-root {ROOT}"
ENDED_BY_SIGPIPE = 141
PROGRAMS = [
    f"{INV} --list",
    f"{INV} --version",
    f"{INV} models.scan --models-dir MODELS",
    f"{INV} models.scan --models-dir MODELS --json",
    f"{INV} models.cost",
    f"{INV} mcp.config",
    "mcp_server --help",
    "mcp_server --http --port 0",
    "emulator --help",
    "emulator --state STATE",
]


def program(words: str, tmp_path: Path) -> list[str]:
    """Return the command line of a module of ours, with its folders made."""
    models = tmp_path / "models"
    models.joinpath("checkpoints").mkdir(parents=True)
    models.joinpath("checkpoints", "sdxl.safetensors").touch()
    folders = {"MODELS": str(models), "STATE": str(tmp_path / "state")}
    return [sys.executable, "-m", *(folders.get(word, word) for word in words.split())]


def run(command: list[str], *, unbuffered: str, with_stderr: bool = False) -> tuple[int, str]:
    """Run a program that writes into a pipe which nobody reads; return its exit status and what it says."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing if with_stderr else subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            cwd=ROOT,
            timeout=HANG_S,
            check=False,
        )
    finally:
        os.close(writing)
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.slow
@pytest.mark.parametrize("words", PROGRAMS)
def test_each_program_ends_quietly(words: str, tmp_path: Path):
    """Nothing is said, neither by the program nor by the interpreter that flushes at its end."""
    ended, output = run(program(words, tmp_path), unbuffered="")

    assert ended == ENDED_BY_SIGPIPE
    assert "BrokenPipeError" not in output


@pytest.mark.slow
@pytest.mark.parametrize("words", [f"{INV} --list", f"{INV} no.such", "emulator --state STATE"])
@pytest.mark.parametrize("with_stderr", [False, True])
def test_an_unbuffered_program_ends_as_quietly(words: str, with_stderr: bool, tmp_path: Path):
    """The first write fails instead of the last flush; with `2>&1` that of an error message, too."""
    ended, output = run(program(words, tmp_path), unbuffered="1", with_stderr=with_stderr)

    expected = 2 if "no.such" in words and not with_stderr else ENDED_BY_SIGPIPE
    assert ended == expected
    assert "BrokenPipeError" not in output


@pytest.mark.slow
def test_a_reader_that_leaves_in_the_middle_is_no_error(tmp_path: Path):
    """`./inv models.scan | head -1` ends as other programs do, however much it has left to say."""
    command = program(f"{INV} models.scan --models-dir MODELS --json", tmp_path)
    for number in range(2000):
        (tmp_path / "models" / "checkpoints" / f"{number:05}.ckpt").touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        message = process.stderr.read()

    assert message == b""
    assert process.returncode == ENDED_BY_SIGPIPE
