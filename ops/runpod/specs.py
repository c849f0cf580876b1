"""What can be declared at RunPod: every field of REST v2, in our names, with units, limits and defaults.

This is the one table of RunPod's field names. A field's annotation says where
it is in RunPod's JSON (`Wire`), what RunPod can do to it, and which values are
valid; creating, patching, reading back, comparing and documenting all follow
from it.

Source: RunPod's OpenAPI document, REST v2 2.0.0; facts that it does not state
are named where they matter.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

VolumeType = Literal["STANDARD", "HIGH_PERFORMANCE"]
EndpointType = Literal["QUEUE", "LOAD_BALANCER"]
FlashBoot = Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"]
Category = Literal["NVIDIA", "AMD", "CPU"]

CudaVersion = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
Text = Annotated[str, Field(min_length=1)]

Problem: TypeAlias = tuple[str, str]
"""A field's name and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Where a field is in RunPod's JSON, and what can be done to it.

    Attributes:
        path: the key, with a dot where it is nested. A nested group is sent whole.
        fixed: why the field cannot be changed; empty when it can. A fixed field's change replaces.
        unordered: a list whose order means nothing.
        secret: RunPod takes it and never shows it.
        scale: RunPod's number is ours times this.
        absent: what a key that is missing or null in an answer means.
        null_clears: in a patch, ``absent`` is sent as null.
    """

    path: str
    fixed: str = ""
    unordered: bool = False
    secret: bool = False
    scale: int = 1
    absent: Any = None
    null_clears: bool = False


class Spec(BaseModel):
    """A declared resource. ``None`` in a field means: not declared, RunPod's or the template's value."""

    # Fields are validated one by one, so the validator of the whole is never needed.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    noun: ClassVar[str]

    name: Text

    @classmethod
    def settle(cls, values: dict[str, Any]) -> list[Problem]:  # noqa: ARG003  # for those that override it
        """Fill in defaults that depend on other fields, in place, and tell what does not go together."""
        return []

    @classmethod
    def replacing(
        cls,
        old: Mapping[str, Any],  # noqa: ARG003  # for those that override it
        new: Mapping[str, Any],  # noqa: ARG003
        changed: Iterable[str],
    ) -> dict[str, str]:
        """Tell which of the changed fields RunPod cannot change in place, and why."""
        return {name: wires(cls)[name].fixed for name in changed if wires(cls)[name].fixed}


class NetworkVolumeSpec(Spec):
    """A network volume: storage that outlives every worker, in one data center."""

    noun: ClassVar[str] = "network volume"

    name: Annotated[Text, Wire("name")]
    size_gb: Annotated[int, Field(ge=10, le=4096), Wire("size")]
    data_center: Annotated[Text, Wire("dataCenter", fixed="a network volume cannot move")]
    type: Annotated[VolumeType | None, Wire("type", fixed="a volume's storage tier cannot change")] = None


def refuse_to_shrink(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Problem]:
    """Refuse to shrink a volume: RunPod only grows one. A volume that is replaced may have any size.

    Args:
        old: the volume's fields; those of another kind have no size, and are never refused.
        new: the declared fields.
    """
    moved = any(new.get(name) not in (None, old.get(name)) for name in ("data_center", "type"))
    size, wanted = old.get("size_gb"), new.get("size_gb")
    if moved or not isinstance(size, int | float) or not isinstance(wanted, int | float) or wanted >= size:
        return []
    reason = (
        f"the volume has {size:g} GB and RunPod only grows volumes, so it cannot become {wanted:g}: "
        f"declare at least {size:g}, or replace the volume and lose what is on it"
    )
    return [("size_gb", reason)]


class TemplateSpec(Spec):
    """A template: how a container is started. Endpoints copy it once, at the time of the call."""

    noun: ClassVar[str] = "template"

    name: Annotated[Text, Wire("name")]
    image: Annotated[Text, Wire("image")]
    args: Annotated[str, Wire("args")] = ""
    disk_gb: Annotated[int, Field(ge=1), Wire("disk")] = 20
    env: Annotated[dict[str, str], Wire("env")] = {}
    ports: Annotated[list[str], Wire("ports", unordered=True)] = []
    registry_id: Annotated[str, Wire("registry", absent="", null_clears=True)] = ""
    serverless: Annotated[bool, Wire("serverless")] = True
    public: Annotated[bool, Wire("public")] = False
    category: Annotated[Category, Wire("category")] = "NVIDIA"
    start_ssh: Annotated[bool, Wire("startSsh")] = False
    start_jupyter: Annotated[bool, Wire("startJupyter")] = False
    allowed_cuda_versions: Annotated[list[CudaVersion], Wire("allowedCudaVersions", unordered=True)] = []
    mount_gb: Annotated[int | None, Field(ge=10), Wire("mounts.persistent.size")] = None
    mount_path: Annotated[str | None, Wire("mounts.persistent.path")] = None

    @classmethod
    def settle(cls, values: dict[str, Any]) -> list[Problem]:
        """See `Spec.settle`."""
        if (values.get("mount_gb") is None) != (values.get("mount_path") is None):
            return [("mount_gb", "mount_gb and mount_path belong together: give both or neither")]
        return []


class CpuSpec(BaseModel):
    """A kind of CPU worker: a flavor of the catalog and a power of two of vCPUs."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: Text
    vcpu_count: Annotated[int, Field(ge=2)]


CONTAINER: Final = ("image", "args", "disk_gb", "env", "ports", "registry_id")
"""The fields that an endpoint takes from its template where it does not state them."""
GPU: Final = ("gpu_pools", "gpu_excluded_types", "gpu_count", "allowed_cuda_versions", "min_cuda_version")


class EndpointSpec(Spec):
    """A serverless endpoint: workers with a queue, or behind a load balancer, on GPUs or on CPUs."""

    noun: ClassVar[str] = "endpoint"

    name: Annotated[Text, Wire("name")]
    type: Annotated[EndpointType, Wire("type", fixed="an endpoint's request routing cannot change")] = "QUEUE"
    template_id: Annotated[str | None, Wire("templateId", secret=True)] = None
    image: Annotated[Text | None, Wire("image")] = None
    args: Annotated[str | None, Wire("args")] = None
    disk_gb: Annotated[int | None, Field(ge=1), Wire("disk")] = None
    env: Annotated[dict[str, str] | None, Wire("env")] = None
    ports: Annotated[list[str] | None, Wire("ports", unordered=True)] = None
    registry_id: Annotated[str | None, Wire("registry", absent="", null_clears=True)] = None
    gpu_pools: Annotated[list[Text] | None, Field(min_length=1), Wire("gpu.pools", unordered=True)] = None
    gpu_excluded_types: Annotated[list[Text] | None, Wire("gpu.excludedTypes", unordered=True, absent=())] = (
        None
    )
    gpu_count: Annotated[int | None, Field(ge=1), Wire("gpu.count")] = None
    allowed_cuda_versions: Annotated[
        list[CudaVersion] | None, Wire("gpu.allowedCudaVersions", unordered=True)
    ] = None
    min_cuda_version: Annotated[
        str | None, Field(pattern=r"^$|^\d+\.\d+$"), Wire("gpu.minCudaVersion", absent="")
    ] = None
    cpu: Annotated[list[CpuSpec] | None, Field(min_length=1), Wire("cpu", unordered=True)] = None
    workers_min: Annotated[int, Field(ge=0), Wire("workers.min")] = 0
    workers_max: Annotated[int, Field(ge=0), Wire("workers.max")] = 3
    idle_timeout_s: Annotated[int | None, Field(ge=1, le=3600), Wire("workers.idleTimeout")] = None
    queue_delay_s: Annotated[float | None, Field(ge=0.5), Wire("scaling.queueDelay")] = None
    request_count: Annotated[int | None, Field(ge=1), Wire("scaling.requestCount")] = None
    data_centers: Annotated[list[Text], Wire("dataCenterIds", unordered=True)] = []
    volume_ids: Annotated[list[Text], Wire("networkVolumes", unordered=True)] = []
    # RunPod documents 300,000 ms and was seen to take 0 where nothing was sent: always sent.
    timeout_s: Annotated[int, Field(ge=0), Wire("timeout", scale=1000)] = 600
    flashboot: Annotated[FlashBoot, Wire("flashboot")] = "OFF"

    @classmethod
    def settle(cls, values: dict[str, Any]) -> list[Problem]:
        """See `Spec.settle`."""
        problems: list[Problem] = []
        if values.get("template_id") is None:
            if values.get("image") is None:
                problems.append(("image", "give an image, or a template_id that has one"))
            _defaults(values, CONTAINER[1:], ("", 20, {}, [], ""))
        if (values.get("gpu_pools") is None) == (values.get("cpu") is None):
            problems.append(("gpu_pools", "an endpoint has either gpu_pools or cpu, exactly one of them"))
        elif values.get("cpu") is None:
            _defaults(values, GPU[1:], ([], 1, [], ""))
            if values["allowed_cuda_versions"] and values["min_cuda_version"]:
                problems.append(
                    ("min_cuda_version", "give allowed_cuda_versions or min_cuda_version, not both")
                )
        else:
            problems += [(name, "a CPU endpoint has no GPUs") for name in GPU if values.get(name) is not None]
            problems += _cpu_problems(values["cpu"])
        return problems + _scaling(values)

    @classmethod
    def replacing(
        cls, old: Mapping[str, Any], new: Mapping[str, Any], changed: Iterable[str]
    ) -> dict[str, str]:
        """See `Spec.replacing`; an endpoint cannot go from GPUs to CPUs either."""
        reasons = super().replacing(old, new, changed)
        for family, other in (("gpu_pools", "cpu"), ("cpu", "gpu_pools")):
            if new.get(family) is not None and old.get(family) is None and old.get(other) is not None:
                reasons[family] = "an endpoint cannot change between GPUs and CPUs"
        return reasons


class RegistryCredentialSpec(Spec):
    """A login for a private container registry. RunPod cannot change one, and never shows it."""

    noun: ClassVar[str] = "registry credential"

    name: Annotated[Text, Wire("name", fixed="a registry credential cannot be changed")]
    username: Annotated[Text, Wire("username", fixed="a registry credential cannot be changed", secret=True)]
    password: Annotated[Text, Wire("password", fixed="a registry credential cannot be changed", secret=True)]


def _scaling(values: dict[str, Any]) -> list[Problem]:
    """Settle the scaler and the idle time-out, which depend on each other and on the type."""
    problems: list[Problem] = []
    balanced = values.get("type") == "LOAD_BALANCER"
    if values.get("queue_delay_s") is not None and values.get("request_count") is not None:
        problems.append(("request_count", "give queue_delay_s or request_count, not both"))
    elif balanced and values.get("queue_delay_s") is not None:
        problems.append(("queue_delay_s", "a load balancer has no queue: give request_count"))
    elif balanced:
        _defaults(values, ("request_count",), (4,))
    elif values.get("request_count") is None:
        _defaults(values, ("queue_delay_s",), (4.0,))
    if not balanced and values.get("request_count") is not None:
        # RunPod refuses it for this combination (422) and leaves it out of its answers.
        if values.get("idle_timeout_s") is not None:
            problems.append(("idle_timeout_s", "does not apply to a queue that scales on request_count"))
    else:
        _defaults(values, ("idle_timeout_s",), (10,))
    low, high = values.get("workers_min"), values.get("workers_max")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        problems.append(("workers_min", f"{low} is more than workers_max, which is {high}"))
    return problems


def _cpu_problems(cpu: object) -> list[Problem]:
    if not isinstance(cpu, list):
        return []
    counts = [entry["vcpu_count"] for entry in cpu if isinstance(entry, dict)]
    return [("cpu", f"{n} vCPUs: RunPod wants a power of two") for n in counts if n & (n - 1)]


def _defaults(values: dict[str, Any], names: Iterable[str], defaults: Iterable[Any]) -> None:
    for name, default in zip(names, defaults, strict=True):
        if values.get(name) is None:
            values[name] = default


@cache
def wires(spec: type[Spec]) -> Mapping[str, Wire]:
    """Return the table of a kind: field name → where it is at RunPod."""
    return {
        name: wire
        for name, info in spec.model_fields.items()
        for wire in info.metadata
        if isinstance(wire, Wire)
    }


@cache
def _adapters(spec: type[Spec]) -> Mapping[str, TypeAdapter[Any]]:
    return {
        name: TypeAdapter(Annotated[info.annotation or Any, *info.metadata])  # type: ignore[arg-type]  # a form
        for name, info in spec.model_fields.items()
    }


def validate(
    spec: type[Spec], given: Mapping[str, Any], *, unknown: Iterable[str] = ()
) -> tuple[dict[str, Any], list[Problem]]:
    """Check declared values and fill in the defaults; all problems at once.

    Args:
        spec: the kind.
        given: values by field name; ``None`` and a missing key are the same.
        unknown: fields whose values are not known yet; they are taken on trust.

    Returns:
        All fields that are declared, and what is wrong, by field.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = [
        (name, f"a {spec.noun} has no such field") for name in given if name not in spec.model_fields
    ]
    trusted = set(unknown)
    for name, info in spec.model_fields.items():
        value = given.get(name)
        if name in trusted:
            values[name] = value
        elif value is None:
            if info.is_required():
                problems.append((name, "is missing"))
            else:
                values[name] = info.get_default(call_default_factory=True)
        else:
            try:
                values[name] = _adapters(spec)[name].dump_python(_adapters(spec)[name].validate_python(value))
            except ValidationError as error:
                problems += [(name, _sentence(value, item)) for item in error.errors(include_url=False)]
    if not problems:
        problems = [problem for problem in spec.settle(values) if problem[0] not in trusted]
    return {name: value for name, value in values.items() if value is not None}, problems


def _sentence(value: object, item: Mapping[str, Any]) -> str:
    where = "".join(f"[{part!r}]" for part in item["loc"])
    shown = repr(item.get("input", value))
    return f"{where} {item['msg']}, not {shown[:80]}".strip()


def same(wire: Wire, a: object, b: object) -> bool:
    """Tell whether two values of a field mean the same."""
    if wire.unordered and isinstance(a, list) and isinstance(b, list):
        key: Callable[[object], str] = repr
        return sorted(map(_plain, a), key=key) == sorted(map(_plain, b), key=key)
    return a == b


def _plain(value: object) -> object:
    """A nested value in a form whose order of keys and kind of number do not matter."""
    if isinstance(value, Mapping):
        return sorted((key, int(v) if isinstance(v, float) else v) for key, v in value.items())
    return value
