"""How the containers of the two endpoints start: from an image of one's own, or from the volume."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pulumi import Input, Output, Resource, ResourceOptions

from infra.runtime_plan import BASES, RuntimePlan
from infra.runtime_resources import PythonEnvironment, WorkerCode
from infra.stack_config import StackConfig
from ops.runtime.environment_key import KINDS, Kind
from ops.runtime.start_command import start_command

INIT_TIMEOUT_S: Final = 800
"""RunPod ends a worker that has not asked for a job after 7 minutes; RUNPOD_INIT_TIMEOUT gives it longer.

Source: docs.runpod.io, serverless/development/optimization, read 2026-08-20.
"""
_IMAGE_NAMES: Final[Mapping[Kind, str]] = {"ops": "ops", "generation": "worker"}


@dataclass(frozen=True, slots=True)
class Start:
    """How a container starts: fields of a template.

    Attributes:
        env: variables beside those that every worker gets.
    """

    image: Input[str] | None
    args: str | None = None
    env: Mapping[str, Input[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Installed:
    """The software on the volume, as resources.

    Attributes:
        code: the code archive.
        environments: kind → environment.
    """

    code: WorkerCode
    environments: Mapping[Kind, PythonEnvironment]

    def all(self) -> list[Resource]:
        """Return every resource; the GPU endpoint and the models wait for them."""
        return [self.code, *self.environments.values()]


def image_start(kind: Kind, config: StackConfig, images: Mapping[str, Output[str]]) -> Start:
    """Start an image that holds everything.

    Args:
        kind: which endpoint.
        config: the stack's configuration, with the images' names.
        images: ``worker`` and ``ops`` images that are known only later, instead of the configured ones.
    """
    named = config.ops_image if kind == "ops" else config.worker_image
    return Start(images.get(_IMAGE_NAMES[kind]) or named)


def volume_start(kind: Kind, plan: RuntimePlan, installed: Installed | None = None) -> Start:
    """Start a base image with the bootstrap, which unpacks what is on the volume.

    Args:
        kind: which endpoint.
        plan: what it shall run.
        installed: the software, for the GPU endpoint: its archives' hashes are known once they are built.
    """
    env: dict[str, Input[str]] = {
        "COMFYFORM_ROLE": kind,
        "COMFYFORM_CODE": plan.code.sha256,
        "COMFYFORM_ENVIRONMENT": plan.keys[kind],
        "RUNPOD_INIT_TIMEOUT": str(INIT_TIMEOUT_S),
        "PYTHONUNBUFFERED": "1",
    }
    if kind == "generation":
        env |= {
            "COMFYFORM_OPS_ENVIRONMENT": plan.keys["ops"],
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        }
        if installed is not None:
            env |= {
                "COMFYFORM_ENVIRONMENT_SHA256": installed.environments["generation"].sha256,
                "COMFYFORM_OPS_ENVIRONMENT_SHA256": installed.environments["ops"].sha256,
            }
    return Start(BASES[kind], start_command(), env)


def install(
    name: str,
    plan: RuntimePlan,
    generation_folder: Path | None,
    *,
    volume_id: Output[str],
    endpoint_id: Output[str],
    opts: ResourceOptions,
) -> Installed:
    """Declare the software on the volume: the code, then one environment after the other.

    Args:
        name: of the environment that the resources belong to.
        plan: what is installed.
        generation_folder: the folder that the plan was made of.
        volume_id: the volume.
        endpoint_id: the ops endpoint, which installs and builds.
        opts: for all of them.
    """
    code = WorkerCode(
        f"{name}-code",
        volume_id=volume_id,
        endpoint_id=endpoint_id,
        sha256=plan.code.sha256,
        generation_folder=str(generation_folder) if generation_folder else None,
        opts=opts,
    )
    environments: dict[Kind, PythonEnvironment] = {}
    before: Resource = code
    for kind in KINDS:
        environments[kind] = PythonEnvironment(
            f"{name}-{kind}-environment",
            volume_id=volume_id,
            endpoint_id=endpoint_id,
            kind=kind,
            key=plan.keys[kind],
            base=BASES[kind],
            opts=ResourceOptions.merge(opts, ResourceOptions(depends_on=[before])),
        )
        before = environments[kind]
    return Installed(code, environments)
