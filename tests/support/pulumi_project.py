"""A copy of the Pulumi project that a test may run the real CLI on, with a state of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.engine import orphan_processes
from infra.engine.pulumi_cli import environment, find
from infra.engine.pulumi_project import CHECKOUT
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator

STACK = "test"
REGISTRY = """\
required:
  whisper:
    used_by: [lipsync]
    license: apache-2.0
    files:
      - path: whisper/config.json
        source: hf:openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af:config.json
      - path: whisper/model.safetensors
        source: hf:openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af:model.safetensors
optional: {}
"""
SMALL = {"comfyform:volume_gb": "10", "comfyform:protect_volume": "false", "comfyform:workers_max": "2"}
IMAGES = {"comfyform:worker_image": "comfyform/worker", "comfyform:ops_image": "comfyform/ops"}
"""A stack on images: nothing is installed on its volume, so that it is up in seconds."""


class Project:
    """A project folder, a stack in it, and the CLI that works on them.

    Attributes:
        root: the folder of Pulumi.yaml.
        env: the CLI's environment.
    """

    def __init__(self, root: Path, emulator: Emulator, *, extra: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.cli = find(say=lambda _: None)
        root.mkdir(parents=True)
        shutil.copyfile(CHECKOUT / "Pulumi.yaml", root / "Pulumi.yaml")
        shutil.copytree(CHECKOUT / "infra", root / "infra", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "models-registry.yaml").write_text(REGISTRY)
        self.env = environment(
            self.cli,
            {
                **os.environ,
                **emulator.env,
                "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
                "PULUMI_STACK": STACK,
                "CI": "true",
                **(extra or {}),
            },
            data=root / "pulumi",
        )

    def pulumi(
        self, *arguments: str, ok: bool = True, timeout_s: float = HANG_S
    ) -> subprocess.CompletedProcess[str]:
        """Run the CLI to its end; a failure that the test does not expect fails it, with what was said."""
        done = subprocess.run(
            [str(self.cli.program), *arguments, "--non-interactive"],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the CLI, in a process group of its own, and do not wait for it."""
        return subprocess.Popen(
            [str(self.cli.program), *arguments, "--non-interactive"],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def up(
        self, *arguments: str, ok: bool = True, timeout_s: float = HANG_S
    ) -> subprocess.CompletedProcess[str]:
        """`pulumi up`, without a preview first."""
        return self.pulumi("up", "--yes", "--skip-preview", *arguments, ok=ok, timeout_s=timeout_s)

    def configure(self, **values: str) -> None:
        """Set keys of the stack's configuration."""
        pairs = [
            part for key, value in values.items() for part in ("--plaintext", f"comfyform:{key}={value}")
        ]
        self.pulumi("config", "set-all", *pairs)

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs."""
        found: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json").stdout)
        return found

    def entries(self) -> list[dict[str, Any]]:
        """Return the resources of the state, without the stack and the providers."""
        state = json.loads(self.pulumi("stack", "export").stdout)["deployment"].get("resources") or []
        return [each for each in state if "dynamic" in each.get("type", "")]

    def resources(self) -> dict[str, dict[str, Any]]:
        """Return the resources of the state by logical name."""
        return {each["urn"].rpartition("::")[2]: each for each in self.entries()}

    def urns(self) -> list[str]:
        """Return the URNs of the resources of the state."""
        return [each["urn"] for each in self.entries()]

    def state_text(self) -> str:
        """Return everything that Pulumi has written to disk about this project, as one text."""
        files = [path for path in (self.root / "pulumi").rglob("*") if path.is_file()]
        return "\n".join(path.read_text(errors="replace") for path in files)


@contextlib.contextmanager
def project(
    root: Path,
    emulator: Emulator,
    *,
    extra: Mapping[str, str] | None = None,
    config: Mapping[str, str] = IMAGES,
) -> Iterator[Project]:
    """Make a project with a small stack, which runs images unless its configuration says otherwise."""
    created = Project(root, emulator, extra=extra)
    created.pulumi("stack", "init", STACK)
    pairs = [part for pair in {**SMALL, **config}.items() for part in ("--plaintext", "=".join(pair))]
    created.pulumi("config", "set-all", *pairs)
    try:
        yield created
    finally:
        orphan_processes.end()


def logical_name(name: str) -> str:
    """Return the logical name of an object of the stack by its name at RunPod."""
    return re.sub("-[0-9a-f]{6}$", "", name.removeprefix(f"comfyform-{STACK}-"))


def kill(process: subprocess.Popen[str]) -> str:
    """End a CLI as a crash would, and return what it said."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=HANG_S)
    return output


def providers(root: Path) -> list[int]:
    """List the provider processes that serve a project."""
    return _at_work(root, b"pulumi.dynamic")


def arguments(root: Path) -> list[str]:
    """List the arguments of every process that works in a project now."""
    found = []
    for pid in _at_work(root, b""):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def _at_work(root: Path, what: bytes) -> list[int]:
    """List processes by their working folder in a project, and a part of their command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            at_work = (process / "cwd").resolve().is_relative_to(root)
            if at_work and what in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found
