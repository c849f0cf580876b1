"""The Pulumi program: configuration → registry → preflight → resources → exports.

Run by ``pulumi up`` and similar commands, or by ``./inv stack.up``.
"""

import sys
from pathlib import Path
from typing import Final

import pulumi
from pulumi.runtime.config import CONFIG

from backend.errors import ComfyformError
from backend.flow.logging_setup import start_logging_from_env
from infra import provider_session
from infra.command_resources import OptIn, built_image, verified
from infra.engine import pulumi_state
from infra.environment import ComfyEnvironment
from infra.forwarded_settings import worker_env
from infra.preflight import NAMES, preflight
from infra.refusals import Refusals
from infra.resources import full_stack_name
from infra.stack_config import StackConfig
from ops.registry.load import load

PROJECT: Final = Path(__file__).absolute().parent.parent
"""The folder of Pulumi.yaml; the language host that we build does not tell it."""


def main() -> None:
    """Declare the stack."""
    start_logging_from_env()
    stack = pulumi.get_stack()
    project = pulumi.get_project()
    opt_in = OptIn.parse(CONFIG.get())
    refusals = Refusals()
    with refusals.collect():
        opt_in.check()
    with refusals.collect():
        config = StackConfig.parse(CONFIG.get(), f"Pulumi.{stack}.yaml", project=project)
        provider_session.use_config(config.runpod_api_key)
        with refusals.collect():
            registry = load(PROJECT / config.registry)
        with refusals.collect():
            cleared = preflight(
                provider_session.api(),
                config,
                project,
                stack,
                read_state=lambda: pulumi_state.recorded(full_stack_name() or stack),
            )
    refusals.raise_all()
    for warning in cleared.warnings:
        pulumi.log.warn(warning)
    environment = ComfyEnvironment(
        NAMES.environment,
        config,
        registry.files(required_only=True),
        worker_env=worker_env(),
        images={name: built_image(name, repository, PROJECT) for name, repository in opt_in.build.items()},
        project=PROJECT,
    )
    pulumi.export("volume_id", environment.volume.id)
    pulumi.export("endpoint_id", environment.endpoint.id)
    pulumi.export("ops_endpoint_id", environment.ops_endpoint.id)
    pulumi.export("template_ids", {"worker": environment.template.id, "ops": environment.ops_template.id})
    pulumi.export("urls", environment.endpoint.request_urls)
    pulumi.export("data_center", config.data_center)
    pulumi.export("cost", cleared.cost.summary())
    pulumi.export("backend_env", environment.backend_env)
    if opt_in.verify is not None:
        output = verified(
            opt_in.verify, PROJECT, after=[environment.endpoint], environment=environment.backend_env
        )
        pulumi.export("verify", output)


try:
    main()
except ComfyformError as error:
    pulumi.log.error(str(error))
    sys.exit(32)  # the language host's code for "the reason is said already"
