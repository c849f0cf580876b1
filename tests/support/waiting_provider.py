"""A dynamic provider whose create only waits: what interruptions do to a long one."""

from typing import Any

from pulumi.dynamic import ConfigureRequest, CreateResult, ResourceProvider

from infra import provider_hooks
from infra.engine import progress
from infra.provider_hooks import guarded


class WaitingProvider(ResourceProvider):
    """Waits."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Set up the process."""
        provider_hooks.prepare()

    @guarded
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Say that it waits, and wait."""
        progress.log("waiting")
        provider_hooks.wait(60)
        return CreateResult("id", {})
