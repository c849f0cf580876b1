"""RunPod's resources for any Pulumi program, typed.

::

    from infra.resources import Endpoint, NetworkVolume

    volume = NetworkVolume("models", size_gb=100, data_center="EU-RO-1")
    Endpoint("images", image="me/worker:1", gpu_pools=["ADA_24"], volume_ids=[volume.id])

Each takes a logical name, its fields as keywords, and ``opts``. The object's
name at RunPod is ``<project>-<stack>-<logical name>-<six digits>`` unless
``name`` chooses another one; no other creation has these digits, so a create
that was cut off is found again. A chosen name must not be taken in the account.
``adopt`` names an existing object by its id: it is taken over instead of made,
keeps its name, and stays at RunPod when the resource is deleted, unless
``keep_adopted`` is False. A field that is left out has the default that its
comment gives and is looked after like any other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import Resource

from infra import providers
from infra.extra_inputs import ADOPT, AUTO_NAME, KEEP, STACK
from infra.models import VERIFIED
from infra.naming import object_name
from ops.runpod.specs import (
    CONTAINER,
    Category,
    EndpointSpec,
    EndpointType,
    FlashBoot,
    NetworkVolumeSpec,
    RegistryCredentialSpec,
    Spec,
    TemplateSpec,
    VolumeType,
)
from ops.runpod.transports import Transport


class AdoptionArgs(TypedDict, total=False):
    """The object's name, and taking over an existing object; shared by all but models."""

    name: Input[str] | None
    """Default: ``<project>-<stack>-<logical name>`` and six digits; of an adopted object its own."""
    adopt: Input[str] | None
    """The id of an object to take over. Another id replaces. Default: a new object is made."""
    keep_adopted: bool | None
    """Whether an adopted object stays at RunPod when the resource is deleted. Default: True."""


class NetworkVolumeArgs(AdoptionArgs, total=False):
    """Fields of a network volume."""

    size_gb: Input[int]
    """Required, 10 to 4096. It can grow, never shrink."""
    data_center: Input[str]
    """Required, for example ``EU-RO-1``. A change replaces the volume: what is on it is lost."""
    type: Input[VolumeType] | None
    """Default: the data center's own tier. A change replaces the volume."""


class NetworkVolume(Resource, module="runpod", name="NetworkVolume"):
    """A network volume. Protected from deletion unless ``opts`` say ``protect=False``."""

    name: Output[str]
    size_gb: Output[int]
    data_center: Output[str]

    def __init__(
        self, resource_name: str, opts: ResourceOptions | None = None, **args: Unpack[NetworkVolumeArgs]
    ) -> None:
        props = _props(resource_name, NetworkVolumeSpec, args)
        options = _options(props, ResourceOptions(protect=True), opts)
        super().__init__(providers.NetworkVolumeProvider(), resource_name, props, options)


class ContainerArgs(AdoptionArgs, total=False):
    """How a container is started; shared by templates and endpoints."""

    image: Input[str] | None
    """Required for a template, and for an endpoint without one."""
    args: Input[str] | None
    """For the image's entry point, one string. Default: none."""
    disk_gb: Input[int] | None
    """Scratch disk, from 1; gone when the worker ends. Default: 20."""
    env: Input[Mapping[str, Input[str]]] | None
    """Variables. ``{{ RUNPOD_SECRET_name }}`` is a secret that is kept at RunPod. Default: none."""
    ports: Input[Sequence[Input[str]]] | None
    """For example ``8000/http``. Default: none."""
    registry_id: Input[str] | None
    """A registry credential, for a private image. Default: none."""


class TemplateArgs(ContainerArgs, total=False):
    """Fields of a template."""

    serverless: Input[bool] | None
    """For endpoints (the default) or for pods."""
    public: Input[bool] | None
    """Whether other RunPod users see it. Default: False."""
    category: Input[Category] | None
    """Default: NVIDIA."""
    start_ssh: Input[bool] | None
    """Default: False. Endpoints ignore it."""
    start_jupyter: Input[bool] | None
    """Default: False. Endpoints ignore it."""
    allowed_cuda_versions: Input[Sequence[Input[str]]] | None
    """``major.minor``, matched exactly. Default: any."""
    mount_gb: Input[int] | None
    """Host-local disk of a pod, from 10; with ``mount_path``. Default: none. It cannot be taken away."""
    mount_path: Input[str] | None


class Template(Resource, module="runpod", name="Template"):
    """A template. An endpoint copies it once; give it as ``Endpoint(template=…)`` to have edits follow."""

    name: Output[str]
    image: Output[str]
    args: Output[str]
    disk_gb: Output[int]
    env: Output[Mapping[str, str]]
    ports: Output[Sequence[str]]
    registry_id: Output[str]

    def __init__(
        self, resource_name: str, opts: ResourceOptions | None = None, **args: Unpack[TemplateArgs]
    ) -> None:
        props = _props(resource_name, TemplateSpec, args)
        super().__init__(
            providers.TemplateProvider(), resource_name, props, _options(props, _DELETED_FIRST, opts)
        )


class Cpu(TypedDict):
    """A kind of CPU worker."""

    id: Input[str]
    """A flavor of the catalog, for example ``cpu3c``."""
    vcpu_count: Input[int]
    """A power of two, from 2."""


class EndpointArgs(ContainerArgs, total=False):
    """Fields of a serverless endpoint: either ``gpu_pools`` or ``cpu``."""

    type: Input[EndpointType] | None
    """Default: QUEUE. A change replaces the endpoint."""
    template_id: Input[str] | None
    """Id of an existing template, adopted once; fields given here take precedence. See also ``template``."""
    gpu_pools: Input[Sequence[Input[str]]] | None
    """Pools of the catalog, for example ``ADA_24``. From GPUs to CPUs or back replaces the endpoint."""
    gpu_excluded_types: Input[Sequence[Input[str]]] | None
    """GPU types of these pools that are not wanted. Default: none."""
    gpu_count: Input[int] | None
    """GPUs a worker. Default: 1."""
    allowed_cuda_versions: Input[Sequence[Input[str]]] | None
    """``major.minor``, matched exactly. Default: any."""
    min_cuda_version: Input[str] | None
    """``major.minor``; instead of a list. Default: no floor."""
    cpu: Input[Sequence[Input[Cpu]]] | None
    workers_min: Input[int] | None
    """Kept running, and paid, all the time. Default: 0."""
    workers_max: Input[int] | None
    """Counts against the account's quota. Default: 3."""
    idle_timeout_s: Input[int] | None
    """Seconds from 1 to 3600. Default: 10. Not for a queue that scales on ``request_count``."""
    queue_delay_s: Input[float] | None
    """Add a worker when a job waited this long, from 0.5. Default for a queue: 4."""
    request_count: Input[int] | None
    """Requests in flight a worker, from 1, instead of ``queue_delay_s``. Default for a load balancer: 4."""
    data_centers: Input[Sequence[Input[str]]] | None
    """Where workers may run. Default: anywhere."""
    volume_ids: Input[Sequence[Input[str]]] | None
    """Network volumes, at most one a data center; a worker sees its own data center's. Default: none."""
    timeout_s: Input[int] | None
    """How long a job may run, in seconds. Default: 600."""
    flashboot: Input[FlashBoot] | None
    """Default: OFF."""


class Endpoint(Resource, module="runpod", name="Endpoint"):
    """A serverless endpoint."""

    name: Output[str]
    image: Output[str]
    workers_max: Output[int]
    request_urls: Output[Mapping[str, str]]
    """Queue: run, runSync, status, stream, cancel, retry, purgeQueue, health. Load balancer: base, health."""
    created_at: Output[str]

    def __init__(
        self,
        resource_name: str,
        opts: ResourceOptions | None = None,
        *,
        template: Template | None = None,
        **args: Unpack[EndpointArgs],
    ) -> None:
        """Declare an endpoint.

        Args:
            resource_name: logical name.
            opts: Pulumi's options.
            template: its container fields become the endpoint's own, so that an edit of the
                template reaches the endpoint in the same ``up``. Fields that are given here win.
            args: the fields.
        """
        props = _props(resource_name, EndpointSpec, args) | {"request_urls": None, "created_at": None}
        if template is not None:
            props |= {name: getattr(template, name) for name in CONTAINER if props.get(name) is None}
        super().__init__(
            providers.EndpointProvider(), resource_name, props, _options(props, _DELETED_FIRST, opts)
        )


class RegistryCredentialArgs(AdoptionArgs, total=False):
    """Fields of a registry credential. A change of any replaces it: RunPod cannot change one."""

    username: Input[str] | None
    """Required, unless the credential is adopted; kept as a secret."""
    password: Input[str] | None
    """Required, unless the credential is adopted; kept as a secret."""


class RegistryCredential(Resource, module="runpod", name="RegistryCredential"):
    """A login for a private container registry."""

    name: Output[str]

    def __init__(
        self, resource_name: str, opts: ResourceOptions | None = None, **args: Unpack[RegistryCredentialArgs]
    ) -> None:
        props = _props(resource_name, RegistryCredentialSpec, args)
        for hidden in ("username", "password"):
            if props.get(hidden) is not None:
                props[hidden] = Output.secret(props[hidden])
        hiding = ResourceOptions(additional_secret_outputs=["username", "password"])
        options = _options(props, ResourceOptions.merge(_DELETED_FIRST, hiding), opts)
        super().__init__(providers.RegistryCredentialProvider(), resource_name, props, options)


class ModelArgs(TypedDict, total=False):
    """Fields of a model file."""

    volume_id: Input[str]
    """Required: the network volume."""
    source: Input[str]
    """Required: ``hf:ORG/NAME@REVISION:FILE``, ``url:https://…``, ``civitai:VERSION`` or ``local:PATH``."""
    size_bytes: Input[int] | None
    """Default: what the source gives."""
    sha256: Input[str] | None
    """64 hexadecimal digits. Default: what the source gives."""
    allow_pickle: Input[bool] | None
    """Use the file although its pickled code goes beyond what weights need. Default: false."""
    endpoint_id: Input[str] | None
    """The ops endpoint, for transport ``job``."""
    transport: Input[Transport] | None
    """``job`` (the ops endpoint fetches) or ``s3`` (through this machine). Default: job."""
    data_center: Input[str] | None
    """The volume's, for transport ``s3`` where no address is set."""


class Model(Resource, module="comfyform", name="Model"):
    """A model file on a network volume. Its logical name is its path from the volume's root."""

    path: Output[str]
    size_bytes: Output[int]
    sha256: Output[str]
    state: Output[str]
    """``verified``, or what a refresh found instead."""

    def __init__(self, path: str, opts: ResourceOptions | None = None, **args: Unpack[ModelArgs]) -> None:
        props: dict[str, Any] = {
            "transport": "job",
            **args,
            "path": path,
            "state": VERIFIED,
            "urn": _urn("dynamic/comfyform:Model", path, opts),
        }
        super().__init__(providers.ModelProvider(), path, {"size_bytes": None, "sha256": None, **props}, opts)


def _props(resource_name: str, spec: type[Spec], args: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the inputs: every field, so that each is an output too, and what a new name begins with."""
    given = {key: value for key, value in args.items() if value is not None}
    base = object_name(pulumi.get_project(), pulumi.get_stack(), resource_name)
    full_name = full_stack_name()
    stack = {STACK: full_name} if full_name else {}
    return {**dict.fromkeys(spec.model_fields), AUTO_NAME: base, **stack, **given}


def full_stack_name() -> str:
    """Name the stack with its organization; empty where the backend has only one."""
    organization = pulumi.get_organization()
    if organization in ("", "organization"):
        return ""
    return f"{organization}/{pulumi.get_project()}/{pulumi.get_stack()}"


# A deleted endpoint frees its workers of the quota, and RunPod may insist on the names of templates.
_DELETED_FIRST = ResourceOptions(delete_before_replace=True)


def _options(
    props: Mapping[str, Any], usual: ResourceOptions, opts: ResourceOptions | None
) -> ResourceOptions:
    """Merge the options: an adopted object shows as retained in the preview of a destroy."""
    adopted = props.get(ADOPT) is not None and props.get(KEEP) is not False
    retained = ResourceOptions(retain_on_delete=True) if adopted else ResourceOptions()
    return ResourceOptions.merge(ResourceOptions.merge(usual, retained), opts)


def _urn(type_name: str, name: str, opts: ResourceOptions | None) -> str:
    """Return a resource's URN before it has one: progress is shown on the line of this name."""
    parent = opts.parent if opts is not None else None
    above = f"{parent.pulumi_resource_type}$" if parent is not None else ""
    stack, project = pulumi.get_stack(), pulumi.get_project()
    return f"urn:pulumi:{stack}::{project}::{above}pulumi-python:{type_name}::{name}"
