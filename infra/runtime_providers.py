"""Pulumi's dynamic providers for the workers' software on a network volume.

As in ``infra.providers``, the names of this module and of its classes are persisted in every state and never
change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult
from pulumi.output import Unknown

from infra import volume_runtime
from infra.engine import progress
from infra.provider_hooks import current_urn, guarded
from infra.providers import ConfiguredProvider

Props = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done for one kind of resource.

    Attributes:
        problems: tells what is wrong with the inputs, by property.
        provide: makes the volume have it and returns the state.
        look: returns the state as the volume has it; None where it is gone.
        inputs: returns the inputs that would declare a state.
        identity: returns what names the resource on its volume.
    """

    problems: Callable[[Props], list[tuple[str, str]]]
    provide: Callable[[Props], dict[str, Any]]
    look: Callable[[Props], dict[str, Any] | None]
    inputs: Callable[[Props], dict[str, Any]]
    identity: Callable[[Props], str]


class _RuntimeProvider(ConfiguredProvider):
    """What code archives and environments share."""

    steps: ClassVar[Steps]

    @guarded
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:  # noqa: ARG002
        """Tell every problem, without any request."""
        known = {name: value for name, value in news.items() if not isinstance(value, Unknown)}
        failures = [CheckFailure(name, reason) for name, reason in self.steps.problems(known)]
        return CheckResult(news, failures)

    @guarded
    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare what must be on the volume; another volume is another resource."""
        changed, replaced = volume_runtime.differences(olds, news)
        return DiffResult(bool(changed), replaced, delete_before_replace=True)

    @guarded
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make the volume have it; what an earlier attempt left is kept."""
        return CreateResult(f"{props['volume_id']}/{self.steps.identity(props)}", self.steps.provide(props))

    @guarded
    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Look at the volume, once for all; what is missing or damaged is drift."""
        found = self.steps.look(props)
        if found is None:
            return ReadResult("", {})
        return ReadResult(id_, found, self.steps.inputs(found))

    @guarded
    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Make the volume have what is declared now; what it had stays for workers that still run."""
        return UpdateResult(self.steps.provide(_news))

    @guarded
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Leave the archives: a worker of the release before may still start from them."""
        progress.log(
            "What was installed stays on the volume: `./inv runtime.prune` removes what no endpoint uses.",
            urn=current_urn(),
            ephemeral=False,
        )


class WorkerCodeProvider(_RuntimeProvider):
    """The code archive."""

    steps = Steps(
        volume_runtime.code_problems,
        volume_runtime.install,
        volume_runtime.look_for_code,
        volume_runtime.code_inputs,
        identity=lambda _props: "code",  # a stack has one
    )


class PythonEnvironmentProvider(_RuntimeProvider):
    """An environment of Python packages."""

    steps = Steps(
        volume_runtime.environment_problems,
        volume_runtime.build,
        volume_runtime.look_for_environment,
        volume_runtime.environment_inputs,
        identity=lambda props: f"environments/{props['kind']}",
    )
