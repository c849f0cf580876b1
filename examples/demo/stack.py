"""The demo's Pulumi project: a copy of this repository's, with a state folder of its own."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backend.errors import ComfyformError
from infra.engine import pulumi_cli

ROOT = Path(__file__).resolve().parents[2]
STACK = "demo"
CONFIG = {
    "data_center": "EU-RO-1",
    "volume_gb": 10,
    "protect_volume": False,  # so that the end of the demo may destroy it
    "gpu_pools": ["ADA_24"],
    "workers_max": 1,
    "idle_timeout_s": 30,
}


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with Pulumi.yaml, a stack in it, and the variables to run Pulumi there."""

    folder: Path
    cli: pulumi_cli.Pulumi
    environment: dict[str, str]

    @classmethod
    def make(
        cls, home: Path, cli: pulumi_cli.Pulumi, environment: Mapping[str, str], registry: Path
    ) -> "Project":
        """Copy the project and make its stack, all under ``home``."""
        folder = home / "project"
        state = home / "state"
        folder.mkdir()
        state.mkdir()
        shutil.copy(ROOT / "Pulumi.yaml", folder)
        (folder / "infra").symlink_to(ROOT / "infra")
        variables = pulumi_cli.environment(
            cli,
            {**environment, "PULUMI_BACKEND_URL": state.as_uri(), "PULUMI_STACK": STACK},
            data=home / "pulumi",
        )
        # The state is a folder that is thrown away, and nothing in it is secret.
        variables["PULUMI_CONFIG_PASSPHRASE"] = ""
        project = cls(folder, cli, variables)
        project.ask("stack", "init", STACK)
        settings = folder / f"Pulumi.{STACK}.yaml"
        config = {f"comfyform:{key}": value for key, value in {**CONFIG, "registry": str(registry)}.items()}
        text = settings.read_text(encoding="utf-8") if settings.exists() else ""
        settings.write_text(text + yaml.safe_dump({"config": config}), encoding="utf-8")
        return project

    def pulumi(self, *arguments: str) -> None:
        """Run a command and show what it says.

        Raises:
            ComfyformError: it failed; Pulumi has said why.
        """
        done = pulumi_cli.run(
            self.cli, [*arguments, "--non-interactive"], environ=self.environment, project=self.folder
        )
        _check(done, arguments)

    def ask(self, *arguments: str) -> str:
        """Run a command and return what it prints."""
        done = pulumi_cli.run(
            self.cli, arguments, environ=self.environment, project=self.folder, capture=True
        )
        _check(done, arguments)
        return done.stdout

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs."""
        outputs: dict[str, Any] = json.loads(self.ask("stack", "output", "--json"))
        return outputs

    def exports(self) -> dict[str, str]:
        """Return the variables with which ``./inv stack.*``, and ``pulumi`` in this folder, see it."""
        names = ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_HOME", "PULUMI_STACK")
        return {"COMFYFORM_PROJECT": str(self.folder)} | {name: self.environment[name] for name in names}


def _check(done: subprocess.CompletedProcess[str], arguments: tuple[str, ...]) -> None:
    if done.returncode:
        reason = f": {done.stderr.strip()}" if done.stderr else ""
        raise ComfyformError(f"`pulumi {' '.join(arguments)}` ended with {done.returncode}{reason}.")
