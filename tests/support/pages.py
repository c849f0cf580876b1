"""The pages of the documentation, their code blocks, and a shell that a reader would type them into."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from tests.support.emulation import until

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.stem: path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
}


def blocks(page: str, language: str, *, before: str = "", after: str = "") -> list[str]:
    """Return the code blocks of a page in one language.

    Args:
        page: its name, a key of `PAGES`.
        language: ``sh`` for what runs here, ``console`` for what cannot, or any other.
        before: a heading that the blocks stand before.
        after: a heading that they stand after.
    """
    text = PAGES[page].read_text(encoding="utf-8")
    for heading in (before, after):
        assert not heading or f"\n{heading}\n" in text, f"{page} has no {heading!r}"
    if before:
        text = text.partition(f"\n{before}\n")[0]
    if after:
        text = text.partition(f"\n{after}\n")[2]
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def languages(page: str) -> set[str]:
    """Return the languages of a page's code blocks; one without a language is a drawing or an answer."""
    return set(re.findall(r"^ *```(\w+)", PAGES[page].read_text(encoding="utf-8"), re.MULTILINE))


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
    # The environment is there already; everything else of `inv` is as a user has it.
    (folder / "inv").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ops.commands.inv "$@"\n')
    return folder


class Shell:
    """A shell that goes on from block to block, as a reader's does.

    Args:
        folder: where it stands.
        scratch: a folder for its own files.
        env: variables beside those of this process.
    """

    def __init__(self, folder: Path, scratch: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._scratch = scratch
        own = Path(sys.executable).parent
        self.env = {**os.environ, "PATH": f"{own}:{os.environ['PATH']}", **env}

    def run(self, block: str) -> str:
        """Run a block that must succeed, keep its variables for the next, and return what it printed."""
        keep = f"\nenv -0 > '{self._scratch / 'env'}'\njobs -p >> '{self._scratch / 'jobs'}'\n"
        message = self._start(["bash", "-euc", block + keep], block)
        pairs = (self._scratch / "env").read_text().split("\0")
        self.env = dict(pair.split("=", 1) for pair in pairs if pair)
        return message

    def python(self, block: str) -> str:
        """Run a block of Python as a program of its own, and return what it printed."""
        return self._start([sys.executable, "-W", "error", "-c", block], block)

    def _start(self, command: list[str], block: str) -> str:
        # Files and no pipes: what a block leaves in the background may hold its output open.
        out, err = self._scratch / "out", self._scratch / "err"
        with out.open("w") as stdout, err.open("w") as stderr:
            done = subprocess.run(
                command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
        output = out.read_text()
        assert done.returncode == 0, f"{block}\n{output[-4000:]}\n{err.read_text()[-4000:]}"
        return output

    def end_jobs(self) -> None:
        """End what blocks left in the background, as a reader would with Ctrl-C."""
        jobs = self._scratch / "jobs"
        pids = jobs.read_text().split() if jobs.exists() else []
        jobs.unlink(missing_ok=True)
        for pid in pids:
            os.kill(int(pid), signal.SIGTERM)
            # They are nobody's children any more, and nobody is told when they end.
            until(functools.partial(_ended, pid))


def _ended(pid: str) -> bool:
    """Tell whether a process is gone, or dead and not yet fetched: then it has no command line."""
    command = Path("/proc", pid, "cmdline")
    return not command.exists() or not command.read_bytes()
