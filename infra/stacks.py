"""A stack of this project, worked on through the real CLI: select, run, unlock, read back."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from backend.errors import ComfyformError, ConfigError
from infra.pulumi_cli import (
    PROJECT,
    Pulumi,
    Say,
    environment,
    find,
    project_folder,
    run,
    say_on_stderr,
    stack_name,
)
from infra.session import NAMESPACE
from infra.stack_config import StackConfig
from infra.state_folder import Lock, locks, repair, state_folder

FAILED: Final = 3
"""Exit code where Pulumi failed and has said why."""


class StackLocked(ComfyformError):
    """Somebody works on the stack."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack.

    Attributes:
        name: for example ``dev``.
        cli: the CLI.
        environ: its environment.
        project: the folder of ``Pulumi.yaml``.
        say: takes a line of talk.
    """

    name: str
    cli: Pulumi
    environ: Mapping[str, str] = field(repr=False)
    project: Path = PROJECT
    say: Say = say_on_stderr

    @classmethod
    def at(
        cls,
        name: str = "",
        *,
        project: str | Path = "",
        environ: Mapping[str, str] | None = None,
        say: Say = say_on_stderr,
    ) -> "Stack":
        """Find the CLI and name a stack, whether it is there or not.

        Args:
            name: by default that of ``PULUMI_STACK``, else ``dev``.
            project: the folder of ``Pulumi.yaml``; by default ``COMFYFORM_PROJECT``'s, else the checkout.
            environ: variables; by default those of this process.
            say: takes a line of talk.

        Raises:
            NoPulumi: there is no CLI and no way to get one.
        """
        cli = find(say=say, environ=environ)
        variables = environment(cli, environ)
        name = stack_name(name, variables)
        folder = project_folder(project, environ)
        return cls(name, cli, {**variables, "PULUMI_STACK": name}, folder, say)

    def opened(self, *, create: bool = False) -> "Stack":
        """Give the stack back when it is there, or make it.

        Raises:
            ConfigError: there is none of this name.
            ComfyformError: it cannot be made.
        """
        if all(lock.gone for lock in self.locks()):
            for done in repair(state_folder(self.environ), self.name):
                self.say(done)
        if self.name in self.names():
            return self
        if not create:
            raise ConfigError(
                f"There is no stack {self.name!r}: {', '.join(self.names()) or 'there are none'}.",
                hint="inv stack.up makes it.",
            )
        made = self.run("stack", "init", self.name, capture=True)
        if made.returncode:
            raise ComfyformError(f"Stack {self.name!r} cannot be made: {_first_line(made.stderr)}")
        return self

    def names(self) -> list[str]:
        """List the project's stacks in the backend."""
        return [str(each["name"]).rpartition("/")[2] for each in self.ask("stack", "ls", "--json")]

    def run(self, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI on this stack and give the finished process."""
        return run(self.cli, arguments, environ=self.environ, project=self.project, capture=capture)

    def ask(self, *arguments: str) -> Any:
        """Run a command that prints JSON and give what it says.

        Raises:
            ComfyformError: it failed.
        """
        done = self.run(*arguments, capture=True)
        if done.returncode:
            what = f"`pulumi {' '.join(arguments)}`"
            raise ComfyformError(f"{what} on stack {self.name!r} failed: {_first_line(done.stderr)}")
        return json.loads(done.stdout or "{}")

    def of(self, name: str) -> "Stack":
        """Give another stack of the same project."""
        return replace(self, name=name, environ={**self.environ, "PULUMI_STACK": name})

    def outputs(self) -> dict[str, Any]:
        """Give the stack's outputs, secrets masked."""
        found: dict[str, Any] = self.ask("stack", "output", "--json")
        return found

    def ids(self) -> set[str]:
        """Give the ids of all resources in the state."""
        return {
            resource["id"] for resource in self._deployment().get("resources") or () if resource.get("id")
        }

    def pending(self) -> int:
        """Count what an earlier run was in the middle of when it was cut off."""
        return len(self._deployment().get("pending_operations") or ())

    def make_ready(self) -> None:
        """Clear away what a run that was killed has left: its lock, and its pending operations.

        A resource that such a run was creating is found and adopted by the next ``up``.

        Raises:
            StackLocked: somebody is at work on the stack.
        """
        for lock in self.locks():
            if not lock.gone:
                raise StackLocked(
                    f"Stack {self.name!r} is in use: process {lock.pid} on {lock.host}, since {lock.since}.",
                    hint="Wait for it. If it is not there any more, `pulumi cancel` removes its lock.",
                )
            self.say(
                f"Process {lock.pid}, which worked on this stack since {lock.since}, is gone: lock removed."
            )
            self.run("cancel", "--yes", capture=True)
        if pending := self.pending():
            self.say(
                f"The last run was cut off in the middle of {pending} operations; looking at RunPod again."
            )
            options = ("--clear-pending-creates", "--yes", "--non-interactive", "--skip-preview")
            self.run("refresh", *options, capture=True)

    def locks(self) -> list[Lock]:
        """List the stack's locks, where its state is in a folder of this machine."""
        return list(locks(state_folder(self.environ), self.name))

    def _deployment(self) -> dict[str, Any]:
        exported = self.ask("stack", "export")
        found: dict[str, Any] = exported.get("deployment") or {}
        return found


def config(name: str, project: str | Path = "") -> StackConfig:
    """Read a stack's configuration from its file, without the CLI; secrets in it stay closed.

    Raises:
        RegistryError: what is wrong with it.
        ConfigError: the file cannot be read.
    """
    values = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in _written(name, project).items()
        if not _closed(value)
    }
    return StackConfig.parse(values, f"Pulumi.{name}.yaml")


def has_secret(name: str, key: str, project: str | Path = "") -> bool:
    """Tell whether a stack's configuration holds a secret."""
    return _closed(_written(name, project).get(f"{NAMESPACE}:{key}"))


def _written(name: str, project: str | Path) -> dict[str, Any]:
    path = project_folder(project) / f"Pulumi.{name}.yaml"
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    written = told.get("config") or {} if isinstance(told, dict) else None
    if not isinstance(written, dict):
        raise ConfigError(
            f"{path} is not a stack's configuration: a mapping with `config:` and the keys under it.",
            hint="For example: config: {comfyform:volume_gb: 100}. `pulumi config set` writes it right.",
        )
    return written


def _closed(value: object) -> bool:
    return isinstance(value, dict) and "secure" in value


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].removeprefix("error: ") if lines else "it said nothing"
