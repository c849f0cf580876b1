"""What ``inv doctor`` says about a stack's runtime: which one it has, and whether it is current."""

from collections.abc import Mapping
from typing import Any, Final

from backend.errors import ComfyformError
from backend.flow.http_driver import Http
from backend.settings import Settings
from infra.engine.stacks import Stack
from infra.runtime_plan import RuntimePlan
from infra.stack_config import StackConfig
from ops.commands.doctor_checks import Finding
from ops.runpod.api import ENDPOINTS, RunPodApi

_WHAT: Final = "Runtime"
_SHORT: Final = 12
"""Digits of a hash that a sentence shows."""


def runtime_finding(stack: Stack, config: StackConfig, settings: Settings, http: Http) -> Finding:
    """Look at what a stack's endpoints start, where it is deployed.

    Args:
        stack: it need not exist.
        config: its configuration.
        settings: with RunPod's key.
        http: the driver.
    """
    if config.runtime == "image":
        return Finding(_WHAT, "ok", f"image: {config.worker_image or 'built'}, {config.ops_image or 'built'}")
    try:
        folder = config.generation_folder
        plan = RuntimePlan.of(stack.project.folder / folder if folder else None)
        if stack.name not in stack.names():
            return Finding(_WHAT, "ok", "volume; the stack is not deployed")
        endpoints = live_environments(stack.outputs(), settings, http)
    except ComfyformError as error:
        return Finding(_WHAT, "warning", f"volume; what the endpoints run is unknown: {error.message}")
    return compare(plan, endpoints)


def compare(plan: RuntimePlan, endpoints: Mapping[str, Mapping[str, str]]) -> Finding:
    """Compare what endpoints start with what this checkout has. Pure.

    Args:
        plan: the software of this checkout.
        endpoints: ``ops`` and ``generation`` → the endpoint's environment variables.
    """
    behind = []
    for kind, key in plan.keys.items():
        env = endpoints.get(kind, {})
        for what, variable, wanted in (
            ("code", "COMFYFORM_CODE", plan.code.sha256),
            ("environment", "COMFYFORM_ENVIRONMENT", key),
        ):
            if (live := env.get(variable, "")) != wanted:
                behind.append(
                    f"the {kind} endpoint has {what} {live[:_SHORT] or 'of no volume'}, "
                    f"this checkout {wanted[:_SHORT]}"
                )
    if behind:
        return Finding(
            _WHAT, "warning", f"volume; {'; '.join(behind)}", "inv stack.up installs what this checkout has."
        )
    return Finding(_WHAT, "ok", f"volume; current, code {plan.code.sha256[:_SHORT]}")


def live_environments(
    outputs: Mapping[str, Any], settings: Settings, http: Http
) -> dict[str, Mapping[str, str]]:
    """Read the environment variables of the stack's two endpoints.

    Raises:
        ComfyformError: RunPod does not answer, or an endpoint was not found.
    """
    api = RunPodApi(
        http, settings.runpod_rest_url, settings.need("runpod_api_key", "RunPod's API needs a key")
    )
    ids = {"ops": outputs.get("ops_endpoint_id"), "generation": outputs.get("endpoint_id")}
    return {kind: api.get(ENDPOINTS, str(id_)).values.get("env") or {} for kind, id_ in ids.items() if id_}
