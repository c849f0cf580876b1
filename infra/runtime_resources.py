"""Pulumi resources of the workers' software on a network volume: code archives and Python environments."""

from typing import Any, TypedDict, Unpack

from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import Resource

from infra import runtime_providers
from infra.volume_runtime import READY
from ops.runtime.environment_key import Kind


class WorkerCodeArgs(TypedDict, total=False):
    """Fields of a code archive."""

    volume_id: Input[str]
    """Required: the network volume. Another one replaces."""
    endpoint_id: Input[str]
    """Required: the ops endpoint, whose bootstrap installs it."""
    sha256: Input[str]
    """Required: of the archive that `RuntimePlan` packs."""
    generation_folder: Input[str] | None
    """A folder of this machine with locks of one's own. Default: the shipped ones. A change of it alone, as
    on another machine, changes nothing."""


class WorkerCode(Resource, module="comfyform", name="WorkerCode"):
    """The archive of backend, ops and worker on a volume. An older one stays until ``runtime.prune``."""

    sha256: Output[str]
    size_bytes: Output[int]
    state: Output[str]
    """``ready``, or what a refresh found instead."""

    def __init__(
        self, resource_name: str, opts: ResourceOptions | None = None, **args: Unpack[WorkerCodeArgs]
    ) -> None:
        props: dict[str, Any] = {"size_bytes": None, **args, "state": READY}
        super().__init__(runtime_providers.WorkerCodeProvider(), resource_name, props, opts)


class PythonEnvironmentArgs(TypedDict, total=False):
    """Fields of an environment."""

    volume_id: Input[str]
    """Required: the network volume. Another one replaces."""
    endpoint_id: Input[str]
    """Required: the ops endpoint, whose worker builds it."""
    kind: Kind
    """Required: ``ops``, the worker's own packages, or ``generation``, ComfyUI and its packages."""
    key: Input[str]
    """Required: the hash of all that the environment is built of."""
    base: Input[str]
    """Required: the image that it is built for, with its digest; a part of the key."""


class PythonEnvironment(Resource, module="comfyform", name="PythonEnvironment"):
    """Python packages from a lock, as one archive on a volume. An older one stays until ``runtime.prune``."""

    key: Output[str]
    sha256: Output[str]
    """Of the archive; known once it is built."""
    size_bytes: Output[int]
    state: Output[str]
    """``ready``, or what a refresh found instead."""

    def __init__(
        self, resource_name: str, opts: ResourceOptions | None = None, **args: Unpack[PythonEnvironmentArgs]
    ) -> None:
        props: dict[str, Any] = {"sha256": None, "size_bytes": None, **args, "state": READY}
        super().__init__(runtime_providers.PythonEnvironmentProvider(), resource_name, props, opts)
