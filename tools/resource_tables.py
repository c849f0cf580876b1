"""The tables of docs/infrastructure.md: every field of every resource, and every key of the configuration.

What a row says is asked of the code that acts on it: which change replaces, what RunPod shows, defaults.
"""

import json
from typing import Any, Final

from infra import models
from infra.stack_config import StackConfig
from ops.runpod.specs import (
    EndpointSpec,
    NetworkVolumeSpec,
    RegistryCredentialSpec,
    Spec,
    TemplateSpec,
    validate,
    wires,
)

_LEAST: Final[dict[type[Spec], dict[str, Any]]] = {
    NetworkVolumeSpec: {"name": "n", "size_gb": 10, "data_center": "d"},
    TemplateSpec: {"name": "n", "image": "i"},
    EndpointSpec: {"name": "n", "image": "i", "gpu_pools": ["p"]},
    RegistryCredentialSpec: {"name": "n", "username": "u", "password": "p"},
}
"""The fields without which a resource is refused."""
_OTHER_FAMILY: Final = {"gpu_pools": "cpu", "cpu": "gpu_pools"}
_NAME: Final = "project, stack, logical name and six digits"
_TITLES: Final = {
    NetworkVolumeSpec: "NetworkVolume",
    TemplateSpec: "Template",
    EndpointSpec: "Endpoint",
    RegistryCredentialSpec: "RegistryCredential",
}
_MODEL_FIELDS: Final = {
    "path": "required (the logical name)",
    "volume_id": "required",
    "source": "required",
    "size_bytes": "what the source gives",
    "sha256": "what the source gives",
    "endpoint_id": "none; required for transport `job`",
    "transport": "`job`",
    "data_center": "none",
}


def fields() -> str:
    """Return the tables of fields, one a resource."""
    parts = []
    for spec, least in _LEAST.items():
        values, _ = validate(spec, least)
        rows = [
            f"| `{name}` | {_change(spec, name)} | {_drift(spec, name)} | {_default(name, least, values)} |"
            for name in wires(spec)
        ]
        parts += [f"### `{_TITLES[spec]}`", "", "| field | a change | drift seen | default |"]
        parts += ["|---|---|---|---|", *rows, ""]
    parts += ["### `Model`", "", "| field | a change | drift seen | default |", "|---|---|---|---|"]
    for name, default in _MODEL_FIELDS.items():
        replaced = models.differences({}, {name: "x"})[1]
        change = "replaces: another place is another file" if replaced else "in place"
        drift = "yes" if name in ("size_bytes", "sha256") else "no: it says where the file comes from or goes"
        parts.append(f"| `{name}` | {change} | {drift} | {default} |")
    return "\n".join(parts)


def keys() -> str:
    """Return the table of the configuration's keys."""
    rows = [
        f"| `comfyform:{name}` | {_shown(info.default)} | {info.description} |"
        for name, info in StackConfig.model_fields.items()
    ]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _change(spec: type[Spec], name: str) -> str:
    """Say what a change of a field is."""
    if reason := spec.replacing({}, {name: "x"}, [name]).get(name):
        return f"replaces: {reason}"
    if other := _OTHER_FAMILY.get(name):
        reason = spec.replacing({other: ["x"]}, {name: ["x"]}, [name])[name]
        return f"in place; instead of `{other}` it replaces: {reason}"
    if spec is NetworkVolumeSpec and name == "size_gb":
        return "in place; it only grows"
    return "in place"


def _drift(spec: type[Spec], name: str) -> str:
    return "no: RunPod never shows it" if wires(spec)[name].secret else "yes"


def _default(name: str, least: dict[str, Any], values: dict[str, Any]) -> str:
    if name == "name":
        return _NAME
    if name in ("gpu_pools", "cpu"):
        return "required: one of `gpu_pools` and `cpu`"
    return "required" if name in least else _shown(values.get(name))


def _shown(value: object) -> str:
    return "none" if value in (None, "") else f"`{value if isinstance(value, str) else json.dumps(value)}`"
