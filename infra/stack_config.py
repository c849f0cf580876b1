"""The stack's configuration: what ``Pulumi.<stack>.yaml`` may say, checked at once and in full."""

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.errors import RegistryError
from backend.settings import Secret
from ops.runpod_specs import FlashBoot, VolumeType
from ops.stores import Transport

NAMESPACE: Final = "comfyform"
IMAGES: Final = ("comfyform/worker", "comfyform/ops")

Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field()]


class StackConfig(BaseModel):
    """Every key of the stack's configuration, with its default. ``Pulumi.yaml`` describes the same keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data_center: Annotated[str, Field(min_length=1)] = "EU-RO-1"
    volume_gb: Annotated[int, Field(ge=10, le=4096)] = 100
    volume_type: VolumeType | None = None
    adopt_volume: str | None = None
    protect_volume: bool = True
    registry: str = "models-registry.yaml"
    transport: Transport = "job"

    gpu_pools: Annotated[Names, Field(min_length=1)] = ["ADA_24", "AMPERE_24"]
    gpu_excluded_types: Names = []
    gpu_count: Annotated[int, Field(ge=1)] = 1
    min_cuda_version: Annotated[str, Field(pattern=r"^$|^\d+\.\d+$")] = ""
    workers_min: Annotated[int, Field(ge=0)] = 0
    workers_max: Annotated[int, Field(ge=0)] = 3
    idle_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 10
    job_timeout_s: Annotated[int, Field(ge=5)] = 900
    flashboot: FlashBoot = "FLASHBOOT"
    worker_image: Annotated[str, Field(min_length=1)] = IMAGES[0]
    worker_disk_gb: Annotated[int, Field(ge=1)] = 20

    ops_image: Annotated[str, Field(min_length=1)] = IMAGES[1]
    ops_cpu: str = "cpu3c"
    ops_vcpus: Annotated[int, Field(ge=2)] = 2
    ops_disk_gb: Annotated[int, Field(ge=1)] = 10

    registry_username: Secret | None = None
    registry_password: Secret | None = None
    hf_token: Secret | None = None
    hf_token_secret: str | None = None
    civitai_token: Secret | None = None
    civitai_token_secret: str | None = None
    runpod_api_key: Secret | None = None

    budget_usd_per_month: Annotated[float, Field(ge=0)] | None = None
    budget_usd_per_hour: Annotated[float, Field(ge=0)] | None = None
    worker_quota: Annotated[int, Field(ge=1)] | None = None

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
    if kind.startswith(("list", "typing.Annotated[list")):
        try:
            return json.loads(text)
        except ValueError:
            return [part.strip() for part in text.split(",")]
    return text
