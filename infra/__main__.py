"""The Pulumi program: config → registry → resources → exports.

Run by ``pulumi up`` and its kin, or by ``./inv stack.up``.
"""

import sys
from pathlib import Path
from typing import Final

import pulumi
from pulumi.runtime.config import CONFIG

from backend.errors import ComfyformError
from infra.environment import ComfyEnvironment
from infra.stack_config import StackConfig
from infra.worker_env import worker_env
from ops.registry import load

PROJECT: Final = Path(__file__).resolve().parent.parent
"""The folder of Pulumi.yaml; the language host that we build does not tell it."""


def main() -> None:
    """Declare the stack."""
    stack = pulumi.get_stack()
    config = StackConfig.parse(CONFIG.get(), f"Pulumi.{stack}.yaml")
    registry = load(PROJECT / config.registry)
    environment = ComfyEnvironment(
        "comfy", config, registry.files(required_only=True), worker_env=worker_env()
    )
    pulumi.export("volume_id", environment.volume.id)
    pulumi.export("endpoint_id", environment.endpoint.id)
    pulumi.export("ops_endpoint_id", environment.ops_endpoint.id)
    pulumi.export("template_ids", {"worker": environment.template.id, "ops": environment.ops_template.id})
    pulumi.export("urls", environment.endpoint.request_urls)
    pulumi.export("data_center", config.data_center)
    pulumi.export("backend_env", environment.backend_env)


try:
    main()
except ComfyformError as error:
    pulumi.log.error(str(error))
    sys.exit(32)  # the language host's code for "the reason is said already"
