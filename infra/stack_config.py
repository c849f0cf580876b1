"""The stack's configuration: what ``Pulumi.<stack>.yaml`` may say, checked at once and in full."""

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from backend.errors import RegistryError
from backend.settings import Secret
from infra.provider_session import NAMESPACE
from ops.runpod.specs import FlashBoot, VolumeType
from ops.runpod.transports import Transport

Runtime = Literal["volume", "image"]
"""Where the software of the workers comes from: archives on the network volume, or two container images."""
DEFAULT_RUNTIME: Final[Runtime] = "image"
"""Of a stack that neither chooses one nor names an image."""
IMAGES: Final = {"worker_image": "comfyform/worker", "ops_image": "comfyform/ops"}
"""Images of runtime ``image`` where the configuration names none."""
BY_RUNTIME: Final[Mapping[Runtime, Mapping[str, int]]] = {
    # The ops worker builds the environments: packages and their archive on its disk, compiled on each CPU.
    "volume": {"ops_vcpus": 4, "ops_disk_gb": 30},
    "image": {"ops_vcpus": 2, "ops_disk_gb": 10},
}
"""Defaults that depend on the runtime."""
CLOSED: Final = Secret("[secret]")
"""Stands for a secret that is set and was not decrypted."""
OPT_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "worker": ("build",),
    "ops": ("build",),
    "verify": ("command",),
}
"""Namespaces beside ``comfyform`` and their keys, which ``infra.command_resources`` acts on."""

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
    adopt_ops_template: str | None = _key(None, "Id of an existing template for the ops endpoint.")
    adopt_worker_template: str | None = _key(None, "Id of an existing template for the GPU endpoint.")
    adopt_ops_endpoint: str | None = _key(None, "Id of an existing endpoint to look after the models.")
    adopt_worker_endpoint: str | None = _key(None, "Id of an existing endpoint to generate with.")
    adopt_registry_credential: str | None = _key(
        None,
        "Id of an existing login of the images' private registry; its name and password may be left out.",
    )
    keep_adopted: bool = _key(
        True, "Leave objects that were taken over at RunPod when the stack is destroyed."
    )
    protect_volume: bool = _key(True, "Refuse to destroy or replace the volume.")
    registry: str = _key("models-registry.yaml", "The models wanted, relative to Pulumi.yaml.", min_length=1)
    transport: Transport = _key(
        "job", "How models get to the volume: job (the ops endpoint) or s3 (this machine)."
    )
    runtime: Runtime = _key(
        DEFAULT_RUNTIME,
        "Where the software of the workers comes from: volume (built there, no image needed) or image "
        "(worker_image and ops_image).",
    )
    generation_folder: str | None = _key(
        None,
        "For runtime volume: a folder, relative to Pulumi.yaml, with a comfyui.toml, comfyui.lock and "
        "cuda.lock of your own. Default: the ones that are shipped.",
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
    worker_image: str | None = _key(
        None, "For runtime image: container image of the workers that generate.", min_length=1
    )
    worker_disk_gb: int = _key(20, "Scratch disk of such a worker.", ge=1)

    ops_image: str | None = _key(
        None, "For runtime image: container image of the worker that looks after the models.", min_length=1
    )
    ops_cpu: str = _key("cpu3c", "CPU flavor of that worker.", min_length=1)
    ops_vcpus: int = _key(
        BY_RUNTIME[DEFAULT_RUNTIME]["ops_vcpus"],
        "Its vCPUs, a power of two. Default: 4 with runtime volume, 2 with image.",
        ge=2,
    )
    ops_disk_gb: int = _key(
        BY_RUNTIME[DEFAULT_RUNTIME]["ops_disk_gb"],
        "Its scratch disk. Default: 30 with runtime volume, which builds environments on it; 10 with image.",
        ge=1,
    )

    registry_username: Secret | None = _key(None, "Login of the images' private registry.")
    registry_password: Secret | None = _key(None, "Password of the images' private registry.")
    hf_token: Secret | None = _key(None, "Hugging Face token for the workers.")
    hf_token_secret: str | None = _key(None, "Or the name of a secret, kept at RunPod, that holds it.")
    civitai_token: Secret | None = _key(None, "CivitAI key for the workers.")
    civitai_token_secret: str | None = _key(None, "Or the name of a secret, kept at RunPod, that holds it.")
    runpod_api_key: Secret | None = _key(None, "RunPod key, where RUNPOD_API_KEY is not set.")

    volume_usd_per_gb_month: float | None = _key(
        None, "The volume's price where it is not the list price; RunPod's console shows it.", ge=0
    )
    budget_usd_per_month: float | None = _key(None, "Refuse to preview what costs more, idle.", ge=0)
    budget_usd_per_hour: float | None = _key(
        None, "Refuse to preview what costs more, with all workers.", ge=0
    )
    worker_quota: int | None = _key(None, "Most workers of the account; checked before create.", ge=1)

    @model_validator(mode="before")
    @classmethod
    def _settle_runtime(cls, values: Any) -> Any:
        """Choose the runtime where the configuration does not, and the defaults that depend on it."""
        named = any(values.get(key) is not None for key in IMAGES)
        runtime = values.get("runtime") or ("image" if named else DEFAULT_RUNTIME)
        images = IMAGES if runtime == "image" else {}
        return {**BY_RUNTIME.get(runtime, {}), **images, **values, "runtime": runtime}

    @classmethod
    def parse(
        cls, config: Mapping[str, str], source: str, *, closed: Collection[str] = (), project: str = NAMESPACE
    ) -> "StackConfig":
        """Read the configuration.

        Args:
            config: all of it, ``namespace:key`` → text, as Pulumi hands it to a program.
            source: the file's name, for messages.
            closed: keys that are set to a secret which was not decrypted; they count as set.
            project: Pulumi's name of the project, the namespace of keys that are written without one.

        Raises:
            RegistryError: everything that is wrong, at once.
        """
        prefix = f"{NAMESPACE}:"
        problems = [*unknown_keys([*config, *closed], project), *opt_in_problems(config)]
        values: dict[str, Any] = {
            key.removeprefix(prefix): CLOSED
            for key in closed
            if key.startswith(prefix) and not cls.needs(key)
        }
        for key, text in config.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name in cls.model_fields and text != "":
                values[name] = _value(cls, name, text)
        built = [key for namespace in ("worker", "ops") if config.get(key := f"{namespace}:build")]
        if built:
            values.setdefault("runtime", "image")
        wrong: set[str] = set()
        try:
            made = cls.model_validate(values)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                name, *inner = map(str, item["loc"])
                wrong.add(name)
                where = ".".join((name, *inner))
                problems.append(
                    f"{prefix}{where}: {_mistake(cls, name, config.get(prefix + name), item['msg'])}"
                )
            made = cls.model_validate({name: value for name, value in values.items() if name not in wrong})
        problems += [f"{prefix}{problem}" for problem in made.conflicts(values.keys(), wrong)]
        problems += [f"{prefix}{problem}" for problem in made.runtime_conflicts(built, wrong)]
        if problems:
            raise RegistryError(source, problems)
        return made

    @classmethod
    def needs(cls, key: str) -> bool:
        """Tell whether a key's value must be known to judge a configuration: all but those of secrets.

        Args:
            key: with its namespace.
        """
        namespace, _, name = key.partition(":")
        info = cls.model_fields.get(name) if namespace == NAMESPACE else None
        return info is not None and not _is_secret(info)

    def conflicts(self, given: Collection[str], wrong: Collection[str] = ()) -> list[str]:
        """Tell what does not go together.

        Args:
            given: names of the keys that are set, whatever their value.
            wrong: names of those whose value has a problem of its own; rules about values leave them out.
        """
        found = []
        if ("registry_username" in given) != ("registry_password" in given):
            found.append("registry_username and registry_password belong together: give both or neither")
        found += [
            f"{name}: give {name} or {name}_secret, not both"
            for name in ("hf_token", "civitai_token")
            if name in given and f"{name}_secret" in given
        ]
        if not {"workers_min", "workers_max"} & set(wrong) and self.workers_min > self.workers_max:
            found.append(f"workers_min: {self.workers_min} is more than workers_max, {self.workers_max}")
        if "ops_vcpus" not in wrong and self.ops_vcpus & (self.ops_vcpus - 1):
            found.append(f"ops_vcpus: {self.ops_vcpus} is not a power of two")
        return found

    def runtime_conflicts(self, built: Collection[str] = (), wrong: Collection[str] = ()) -> list[str]:
        """Tell what does not go together with the runtime.

        Args:
            built: keys of other namespaces that have an image built.
            wrong: names of keys whose value has a problem of its own.
        """
        if {"runtime", *IMAGES} & set(wrong):
            return []
        named = [f"{NAMESPACE}:{key}" for key in IMAGES if getattr(self, key) is not None] + [*built]
        if self.runtime == "volume":
            conflict = (
                "runtime: volume runs public images with software from the volume, so it does not go with "
                f"{' and '.join(named)}: remove that, or set runtime to image"
            )
            return [conflict] if named else []
        if self.generation_folder is not None:
            return ["generation_folder: only runtime volume uses it"]
        return []


def unknown_keys(keys: Iterable[str], project: str) -> list[str]:
    """Name keys that no part of comfyform reads, with the key that was meant.

    Other providers' namespaces (``aws:region``) are left alone, unless one looks like ``comfyform`` mistyped.

    Args:
        keys: with their namespaces.
        project: the namespace of keys that are written without one.
    """
    found = []
    fields = {NAMESPACE: tuple(StackConfig.model_fields), **OPT_IN}
    for key in keys:
        namespace, _, name = key.partition(":")
        if namespace in fields:
            if name not in fields[namespace]:
                close = difflib.get_close_matches(name, fields[namespace], n=1)
                # A namespace with one key has no other that could be meant.
                meant = close or fields[namespace][:1] * (len(fields[namespace]) == 1)
                hint = f"; did you mean {namespace}:{meant[0]}?" if meant else ""
                found.append(f"{key}: unknown key{hint}")
        elif (namespace == project and name in fields[NAMESPACE]) or difflib.get_close_matches(
            namespace, [NAMESPACE], cutoff=0.75
        ):
            meant = difflib.get_close_matches(name, fields[NAMESPACE], n=1) or ["…"]
            found.append(f"{key}: unknown namespace {namespace!r}; did you mean {NAMESPACE}:{meant[0]}?")
    return found


def opt_in_problems(config: Mapping[str, str]) -> list[str]:
    """Judge the keys of the commands that a stack may ask for; ``infra.command_resources`` runs them."""
    found = []
    for namespace in ("worker", "ops"):
        repository = config.get(f"{namespace}:build", "")
        if "@" in repository or ":" in repository.rpartition("/")[2]:
            found.append(
                f"{namespace}:build: expected a repository without a tag or digest, got {repository!r}; "
                "for example ghcr.io/me/comfyform-worker (the digest is taken from the push)"
            )
    return found


def _is_secret(info: FieldInfo) -> bool:
    return "Secret" in str(info.annotation)


def _mistake(model: type[BaseModel], name: str, text: str | None, message: str) -> str:
    """Explain a value that is not accepted: what is allowed, what was found, and how to write it."""
    info = model.model_fields[name]
    if text is None or _is_secret(info):
        return message
    # Pulumi turns 13.0 into 13 and 012 into 10 before a program sees them.
    quote = "str" in str(info.annotation) and re.fullmatch(r"-?\d+(\.\d*)?|true|false", text)
    hint = '; write it in quotes, for example "12.8", because Pulumi shortens numbers' if quote else ""
    return f"{message}, got {text!r}{hint}"


def _value(model: type[BaseModel], name: str, text: str) -> Any:
    """Turn a key's text into what its type is read from: JSON for lists, a secret for secrets."""
    info = model.model_fields[name]
    if _is_secret(info):
        return Secret(text)
    if str(info.annotation).startswith("list"):
        try:
            return json.loads(text)
        except ValueError:
            return [part.strip() for part in text.split(",")]
    return text


def described() -> dict[str, dict[str, Any]]:
    """Return the ``config`` section of ``Pulumi.yaml``: each key with its type, default and sentence.

    Keys without a default are not in it: Pulumi would take them for required. Nor are those whose default
    depends on the runtime: Pulumi would hand their default to the program as if the user had set it.
    """
    kinds = {"int": "integer", "bool": "boolean"}
    section: dict[str, dict[str, Any]] = {}
    for name, info in StackConfig.model_fields.items():
        if info.default is None or name in ("runtime", *BY_RUNTIME[DEFAULT_RUNTIME]):
            continue
        kind = getattr(info.annotation, "__name__", "")
        entry: dict[str, Any] = {"description": info.description, "type": kinds.get(kind, "string")}
        if kind == "list":
            entry |= {"type": "array", "items": {"type": "string"}}
        section[f"{NAMESPACE}:{name}"] = {**entry, "default": info.default}
    return section
