"""The Pulumi project that a command is about, and how its stacks are called.

The project is the one whose ``Pulumi.yaml`` is in the folder that ``--project`` or ``COMFYFORM_PROJECT``
names. Its name decides how objects at RunPod are called and where Pulumi keeps the state.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backend.errors import ConfigError
from ops.files.yaml_positions import NotYaml, read_value

CHECKOUT: Final = Path(__file__).resolve().parents[2]
"""The folder of ``Pulumi.yaml`` in a checkout."""
_FILES: Final = ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json")


@dataclass(frozen=True, slots=True)
class Project:
    """A Pulumi project.

    Attributes:
        folder: that of its ``Pulumi.yaml``.
        name: as ``Pulumi.yaml`` gives it.
        config_folder: where its stacks' configuration files are.
    """

    folder: Path
    name: str
    config_folder: Path

    @classmethod
    def at(cls, folder: str | Path = "", environ: Mapping[str, str] | None = None) -> "Project":
        """Read the project file of a folder.

        Args:
            folder: by default that of ``COMFYFORM_PROJECT``, else the checkout.
            environ: variables; by default those of this process.

        Raises:
            ConfigError: the folder has no project file, or one without a name.
        """
        where = project_folder(folder, environ).absolute()
        path = next((where / name for name in _FILES if (where / name).is_file()), None)
        if path is None:
            raise ConfigError(
                f"No Pulumi project in {where}: expected a file {_FILES[0]}.",
                hint="--project (or COMFYFORM_PROJECT) names the folder of Pulumi.yaml.",
            )
        try:
            content = read_value(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, NotYaml) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        name = content.get("name") if isinstance(content, dict) else None
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{path} has no `name`: expected the name of a Pulumi project.")
        return cls(where, name, where / str(content.get("stackConfigDir") or ""))

    def config_file(self, stack: str) -> Path:
        """Path of a stack's configuration file.

        Args:
            stack: its short name.
        """
        return self.config_folder / f"Pulumi.{stack}.yaml"

    def short_name(self, stack: str) -> str:
        """Cut a stack's name to its last part: ``organization/comfyform/dev`` is ``dev`` of this project.

        Raises:
            ConfigError: the name is of a stack of another project, or has too many parts.
        """
        parts = stack.split("/")
        if not all(parts) or len(parts) > 3:
            raise ConfigError(
                f"{stack!r} cannot be a stack's name: expected STACK, ORGANIZATION/STACK or "
                "ORGANIZATION/PROJECT/STACK."
            )
        if len(parts) == 3 and parts[1] != self.name:
            raise ConfigError(
                f"Stack {stack!r} is of project {parts[1]!r}; the project in {self.folder} is {self.name!r}.",
                hint="Name the folder of that project with --project, or a stack of this one.",
            )
        return parts[-1]


def project_folder(folder: str | Path = "", environ: Mapping[str, str] | None = None) -> Path:
    """Choose the folder of ``Pulumi.yaml``: the argument, else ``COMFYFORM_PROJECT``, else the checkout."""
    asked = folder or (os.environ if environ is None else environ).get("COMFYFORM_PROJECT", "")
    return Path(asked) if asked else CHECKOUT


def stack_name(name: str = "", environ: Mapping[str, str] | None = None) -> str:
    """Choose a stack's name: the argument, else ``PULUMI_STACK``, else ``dev``."""
    return name or (os.environ if environ is None else environ).get("PULUMI_STACK", "") or "dev"
