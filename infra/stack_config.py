"""The stack's configuration: what ``Pulumi.<stack>.yaml`` may say, checked at once and in full."""

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.errors import RegistryError
from backend.settings import Secret
from infra.session import NAMESPACE
from ops.runpod_specs import FlashBoot, VolumeType
from ops.stores import Transport

IMAGES: Final = ("comfyform/worker", "comfyform/ops")

Names = list[Annotated[str, Field(min_length=1)]]


def _key(default: Any, sentence: str, **limits: Any) -> Any:
    """Declare a key: its default, the sentence that explains it, and its limits."""
    return Field(default=default, description=sentence, **limits)


class StackConfig(BaseModel):
    """Every key of the stack's configuration, with its default. ``Pulumi.yaml`` describes the same keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data_center: str = _key("EU-RO-1", "Where the volume and the workers are.", min_length=1)
    volume_gb: int = _key(100, "Size of the network volume; it can grow, never shrink.", ge=10, le=4096)
    volume_type: VolumeType | None = _key(None, "Its storage tier; by default the data center's own.")
    adopt_volume: str | None = _key(None, "Id of an existing volume to take over instead of making one.")
    protect_volume: bool = _key(True, "Refuse to destroy or replace the volume.")
    registry: str = _key("models-registry.yaml", "The models wanted, relative to Pulumi.yaml.", min_length=1)
    transport: Transport = _key(
        "job", "How models get to the volume: job (the ops endpoint) or s3 (this machine)."
    )

    gpu_pools: Names = _key(["ADA_24", "AMPERE_24"], "GPU pools of the workers.", min_length=1)
    gpu_excluded_types: Names = _key([], "GPU types of these pools that are not wanted.")
    gpu_count: int = _key(1, "GPUs a worker.", ge=1)
    # What the image's torch is built for: a host with an older driver would crash it again and again.
    min_cuda_version: str = _key("12.8", "Lowest CUDA version of a worker's host.", pattern=r"^$|^\d+\.\d+$")
    workers_min: int = _key(0, "Workers that are kept running, and paid, all the time.", ge=0)
    workers_max: int = _key(3, "Most workers at a time; counts against the account's quota.", ge=0)
    idle_timeout_s: int = _key(10, "Seconds until a worker without jobs ends.", ge=1, le=3600)
    job_timeout_s: int = _key(900, "Seconds that a job may run.", ge=5)
    flashboot: FlashBoot = _key("FLASHBOOT", "How hard RunPod tries to start workers quickly.")
    worker_image: str = _key(IMAGES[0], "Container image of the workers that generate.", min_length=1)
    worker_disk_gb: int = _key(20, "Scratch disk of such a worker.", ge=1)

    ops_image: str = _key(
        IMAGES[1], "Container image of the worker that looks after the models.", min_length=1
    )
    ops_cpu: str = _key("cpu3c", "CPU flavor of that worker.", min_length=1)
    ops_vcpus: int = _key(2, "Its vCPUs, a power of two.", ge=2)
    ops_disk_gb: int = _key(10, "Its scratch disk.", ge=1)

    registry_username: Secret | None = _key(None, "Login of the images' private registry.")
    registry_password: Secret | None = _key(None, "Password of the images' private registry.")
    hf_token: Secret | None = _key(None, "Hugging Face token for the workers.")
    hf_token_secret: str | None = _key(None, "Or the name of a secret, kept at RunPod, that holds it.")
    civitai_token: Secret | None = _key(None, "CivitAI key for the workers.")
    civitai_token_secret: str | None = _key(None, "Or the name of a secret, kept at RunPod, that holds it.")
    runpod_api_key: Secret | None = _key(None, "RunPod key, where RUNPOD_API_KEY is not set.")

    budget_usd_per_month: float | None = _key(None, "Refuse to preview what costs more, idle.", ge=0)
    budget_usd_per_hour: float | None = _key(
        None, "Refuse to preview what costs more, with all workers.", ge=0
    )
    worker_quota: int | None = _key(None, "Most workers of the account; checked before create.", ge=1)

    @classmethod
    def parse(cls, config: Mapping[str, str], source: str) -> "StackConfig":
        """Read the configuration.

        Args:
            config: all of it, ``namespace:key`` → text, as Pulumi hands it to a program.
            source: the file's name, for messages.

        Raises:
            RegistryError: everything that is wrong, at once.
        """
        prefix = f"{NAMESPACE}:"
        given = {key.removeprefix(prefix): text for key, text in config.items() if key.startswith(prefix)}
        values: dict[str, Any] = {}
        problems: list[str] = []
        for name, text in given.items():
            if name not in cls.model_fields:
                close = difflib.get_close_matches(name, cls.model_fields, n=1)
                hint = f"; did you mean {prefix}{close[0]}?" if close else ""
                problems.append(f"{prefix}{name}: there is no such key{hint}")
            elif text != "":
                values[name] = _value(cls, name, text)
        try:
            made = cls.model_validate(values)
        except ValidationError as error:
            for item in error.errors(include_url=False, include_input=False):
                where = ".".join(map(str, item["loc"]))
                problems.append(f"{prefix}{where}: {item['msg']}")
            raise RegistryError(source, problems) from None
        problems += [f"{prefix}{problem}" for problem in made.conflicts()]
        if problems:
            raise RegistryError(source, problems)
        return made

    def conflicts(self) -> list[str]:
        """Tell what does not go together."""
        found = []
        if (self.registry_username is None) != (self.registry_password is None):
            found.append("registry_username and registry_password belong together: give both or neither")
        found += [
            f"{name}: give {name} or {name}_secret, not both"
            for name in ("hf_token", "civitai_token")
            if getattr(self, name) is not None and getattr(self, f"{name}_secret") is not None
        ]
        if self.workers_min > self.workers_max:
            found.append(f"workers_min: {self.workers_min} is more than workers_max, {self.workers_max}")
        if self.ops_vcpus & (self.ops_vcpus - 1):
            found.append(f"ops_vcpus: {self.ops_vcpus} is not a power of two")
        return found


def _value(model: type[BaseModel], name: str, text: str) -> Any:
    """Turn a key's text into what its type is read from: JSON for lists, a secret for secrets."""
    kind = str(model.model_fields[name].annotation)
    if "Secret" in kind:
        return Secret(text)
    if kind.startswith("list"):
        try:
            return json.loads(text)
        except ValueError:
            return [part.strip() for part in text.split(",")]
    return text


def described() -> dict[str, dict[str, Any]]:
    """Give the ``config`` section of ``Pulumi.yaml``: each key with its type, default and sentence.

    Keys without a default are not in it: Pulumi would take them for required.
    """
    kinds = {"int": "integer", "bool": "boolean"}
    section: dict[str, dict[str, Any]] = {}
    for name, info in StackConfig.model_fields.items():
        if info.default is None:
            continue
        kind = getattr(info.annotation, "__name__", "")
        entry: dict[str, Any] = {"description": info.description, "type": kinds.get(kind, "string")}
        if kind == "list":
            entry |= {"type": "array", "items": {"type": "string"}}
        section[f"{NAMESPACE}:{name}"] = {**entry, "default": info.default}
    return section
