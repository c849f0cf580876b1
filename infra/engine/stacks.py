"""A stack of a Pulumi project, worked on through the real CLI: select, run, unlock, read back."""

import json
import logging
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from backend.errors import ComfyformError, ConfigError, MissingSetting
from backend.settings import Settings
from infra.engine import stack_values
from infra.engine.pulumi_cli import Pulumi, Say, environment, find, first_line, run, say_on_stderr
from infra.engine.pulumi_project import Project, stack_name
from infra.engine.state_files import Lock, locks, repair, state_folder
from infra.provider_session import KEY, NAMESPACE
from infra.stack_config import StackConfig

logger = logging.getLogger(__name__)

_KEY: Final = f"{NAMESPACE}:{KEY}"
FAILED: Final = 3
"""Exit code where Pulumi failed and has said why."""
KEY_VARIABLE: Final = "RUNPOD_API_KEY"


class StackLocked(ComfyformError):
    """The stack is in use."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack.

    Attributes:
        name: short, for example ``dev``.
        cli: the CLI.
        environ: its environment; ``PULUMI_STACK`` is the stack's name as the user wrote it.
        project: the project that it is a stack of.
        say: takes a line of talk.
    """

    name: str
    cli: Pulumi
    environ: Mapping[str, str] = field(repr=False)
    project: Project
    say: Say = say_on_stderr

    @classmethod
    def at(
        cls,
        name: str = "",
        *,
        project: str | Path = "",
        environ: Mapping[str, str] | None = None,
        say: Say = say_on_stderr,
        cli: Pulumi | None = None,
    ) -> "Stack":
        """Find the CLI and name a stack, whether it exists or not.

        Args:
            name: short or fully qualified; by default that of ``PULUMI_STACK``, else ``dev``.
            project: the folder of ``Pulumi.yaml``; by default ``COMFYFORM_PROJECT``'s, else the checkout.
            environ: variables; by default those of this process.
            say: takes a line of talk.
            cli: the CLI, where it is found already.

        Raises:
            ConfigError: the folder holds no Pulumi project, or the name is of another project's stack.
            NoPulumi: the Pulumi CLI was not found and could not be installed.
        """
        found = Project.at(project, environ)
        asked = stack_name(name, environ)
        short = found.short_name(asked)
        cli = cli or find(say=say, environ=environ)
        return cls(short, cli, {**environment(cli, environ), "PULUMI_STACK": asked}, found, say)

    def config(self, *, warn_of_defaults: bool = False) -> StackConfig:
        """Read the stack's configuration as Pulumi reads it; the stack need not exist.

        Secrets are decrypted only where their value is needed: ``runpod_api_key`` where the environment has
        no ``RUNPOD_API_KEY``, and keys that are usually in plain text.

        Args:
            warn_of_defaults: say so where a stack that was named has neither a state nor a file.

        Raises:
            RegistryError: everything that is wrong with the configuration.
            ComfyformError: Pulumi cannot read it, or cannot decrypt what is needed.
        """
        values = stack_values.read(self, opened=False)
        closed = values.closed()
        if any(StackConfig.needs(key) for key in closed if key != _KEY) or (
            _KEY in closed and not self.environ.get(KEY_VARIABLE)
        ):
            values = stack_values.read(self, opened=True)
        logger.info(
            "Configuration of stack %s: from %s", self.name, values.source if values.written else "defaults"
        )
        if warn_of_defaults and not values.written and self.environ["PULUMI_STACK"] != "dev":
            self.say(
                f"Stack {self.name!r} does not exist and {values.source} was not found: "
                "its configuration is the defaults."
            )
        return StackConfig.parse(
            values.texts(), values.source, closed=values.closed(), project=self.project.name
        )

    def with_key(self, config: StackConfig) -> "Stack":
        """Hand RunPod's key to Pulumi in the environment, also where only the configuration has it.

        ``refresh`` and ``destroy`` get the configuration of the last ``up``, so a key that was set or
        changed since would not reach them otherwise.

        Raises:
            MissingSetting: the key is set in neither place.
        """
        if self.environ.get(KEY_VARIABLE):
            return self
        if not config.runpod_api_key:
            raise MissingSetting(
                KEY_VARIABLE,
                "RunPod's API needs a key",
                hint=f"Set it: export {KEY_VARIABLE}=…, or pulumi config set --secret {_KEY} "
                f"--stack {self.name}",
            )
        return replace(self, environ={**self.environ, KEY_VARIABLE: config.runpod_api_key.reveal()})

    def settings(self) -> Settings:
        """Settings of the stack's environment.

        Raises:
            ConfigError: a variable cannot be read.
        """
        return Settings.from_env(self.environ)

    def opened(self, *, create: bool = False) -> "Stack":
        """Check that the stack exists, or make it.

        Raises:
            ConfigError: it does not exist.
            ComfyformError: it cannot be made.
        """
        if all(lock.gone for lock in self.locks()):
            for done in repair(state_folder(self.environ), self.project.name, self.name):
                self.say(done)
        if self.name in self.names():
            return self
        if not create:
            raise ConfigError(
                f"Stack {self.name!r} of project {self.project.name!r} does not exist. "
                f"Stacks of this project: {', '.join(self.names()) or 'none'}.",
                hint=f"Create it with: inv stack.up --stack {self.name}",
            )
        made = self.run("stack", "init", self.environ["PULUMI_STACK"], capture=True)
        if made.returncode:
            raise ComfyformError(f"Stack {self.name!r} cannot be created: {first_line(made.stderr)}")
        return self

    def names(self) -> list[str]:
        """List the project's stacks in the backend."""
        return [str(each["name"]).rpartition("/")[2] for each in self.ask("stack", "ls", "--json")]

    def run(self, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI on this stack and return the finished process."""
        return run(self.cli, arguments, environ=self.environ, project=self.project.folder, capture=capture)

    def ask(self, *arguments: str) -> Any:
        """Run a command that prints JSON and return what it says.

        Raises:
            ComfyformError: it failed.
        """
        done = self.run(*arguments, capture=True)
        if done.returncode:
            what = f"`pulumi {' '.join(arguments)}`"
            raise ComfyformError(f"{what} on stack {self.name!r} failed: {first_line(done.stderr)}")
        return json.loads(done.stdout or "{}")

    def every(self) -> dict[tuple[str, str], str]:
        """List all stacks of the backend: project and short name → the name that the CLI takes."""
        found = {}
        for each in self.ask("stack", "ls", "--all", "--json"):
            reference = str(each["name"])
            parts = reference.split("/")
            project = parts[1] if len(parts) == 3 else self.project.name
            found[project, parts[-1]] = reference
        return found

    def of(self, reference: str) -> "Stack":
        """Name another stack, to read its state.

        Args:
            reference: the name that the CLI takes, as ``every`` gives it.
        """
        name = reference.rpartition("/")[2]
        return replace(self, name=name, environ={**self.environ, "PULUMI_STACK": reference})

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs, secrets masked."""
        found: dict[str, Any] = self.ask("stack", "output", "--json")
        return found

    def ids(self) -> set[str]:
        """Return the ids of all resources in the state."""
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
            StackLocked: the stack is in use.
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
        return list(locks(state_folder(self.environ), self.project.name, self.name))

    def _deployment(self) -> dict[str, Any]:
        exported = self.ask("stack", "export")
        found: dict[str, Any] = exported.get("deployment") or {}
        return found
