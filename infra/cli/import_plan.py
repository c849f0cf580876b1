"""Finds an environment among the objects of an account, and the configuration that takes it over. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from backend.errors import ConfigError
from infra.stack_config import StackConfig
from ops.runpod.api import Kind, Live
from ops.runpod.specs import Spec

VOLUME, OPS, WORKER = "volume", "ops_endpoint", "worker_endpoint"
OPS_TEMPLATE, WORKER_TEMPLATE, CREDENTIAL = "ops_template", "worker_template", "registry_credential"
Account = Mapping[str, tuple[Live[Spec], ...]]
"""Path of a kind → its objects."""
COLUMNS: Final = ("kind", "id", "name", "what", "use")
_LISTED: Final = {VOLUME: "network-volumes", OPS: "serverless", WORKER: "serverless"}
"""Role that the user may choose → path of its kind."""
_FROM_VOLUME: Final = {"data_center": "data_center", "volume_gb": "size_gb"}
_FROM_WORKER: Final = {
    "gpu_pools": "gpu_pools",
    "gpu_excluded_types": "gpu_excluded_types",
    "gpu_count": "gpu_count",
    "min_cuda_version": "min_cuda_version",
    "workers_min": "workers_min",
    "workers_max": "workers_max",
    "idle_timeout_s": "idle_timeout_s",
    "job_timeout_s": "timeout_s",
    "flashboot": "flashboot",
    "worker_image": "image",
    "worker_disk_gb": "disk_gb",
}
_FROM_OPS: Final = {"ops_image": "image", "ops_disk_gb": "disk_gb"}


@dataclass(slots=True)
class Proposal:
    """What a stack would take over.

    Attributes:
        chosen: role → the object for it; a key ``adopt_<role>`` of the configuration names it.
        notes: what is unclear, and what the configuration cannot say, a sentence each.
    """

    chosen: dict[str, Live[Spec]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def choose(self, role: str, candidates: Iterable[Live[Spec]], asked: str = "") -> Live[Spec] | None:
        """Settle a role: with the object that is asked for, or the only candidate."""
        found = [live for live in candidates if asked in ("", live.id)]
        if len(found) == 1:
            self.chosen[role] = found[0]
            return found[0]
        if found:
            option = f" Choose one with --{role.replace('_', '-')}." if role in _LISTED else ""
            self.notes.append(
                f"Several objects could be the {role}: {', '.join(live.id for live in found)}.{option}"
            )
        return None

    def keys(self) -> dict[str, str | list[str]]:
        """Return the keys of the configuration, without namespace; defaults are left out."""
        keys: dict[str, str | list[str]] = {f"adopt_{role}": live.id for role, live in self.chosen.items()}
        wanted: dict[str, Any] = {}
        for role, table in ((VOLUME, _FROM_VOLUME), (WORKER, _FROM_WORKER), (OPS, _FROM_OPS)):
            if role in self.chosen:
                values = self.chosen[role].values
                wanted |= {key: values.get(name) for key, name in table.items()}
        if cpu := self.chosen[OPS].values.get("cpu") if OPS in self.chosen else None:
            wanted |= {"ops_cpu": cpu[0]["id"], "ops_vcpus": cpu[0]["vcpu_count"]}
        usual = StackConfig(runtime="image")
        keys |= {
            key: value if isinstance(value, list) else str(value)
            for key, value in wanted.items()
            if value not in (None, "") and value != getattr(usual, key)
        }
        return keys

    def rows(
        self, kind: Kind[Spec], account: Account, states: Mapping[str, Collection[str]]
    ) -> list[list[str]]:
        """Describe the objects of a kind, a row of `COLUMNS` each."""
        roles = {live.id: role for role, live in self.chosen.items()}
        found = []
        for live in account[kind.path]:
            holder = next((f"stack {name}" for name, ids in states.items() if live.id in ids), "")
            use = holder or roles.get(live.id, "")
            found.append([kind.noun, live.id, live.name, _describe(live), use])
        return found


def propose(account: Account, states: Mapping[str, Collection[str]], asked: Mapping[str, str]) -> Proposal:
    """Find an environment.

    Args:
        account: everything at RunPod, by ``Kind.path``.
        states: stack → the ids that its state has; they are not proposed.
        asked: role → id that the user has chosen, or an empty text.

    Raises:
        ConfigError: the account does not have what the user has chosen.
    """
    for role, id_ in asked.items():
        ids = [live.id for live in account[_LISTED[role]]]
        if id_ and id_ not in ids:
            raise ConfigError(
                f"--{role.replace('_', '-')} {id_!r} was not found at RunPod.",
                hint=f"The account has {', '.join(ids) or 'none'}.",
            )
    owned = set[str]().union(*states.values())

    def free(path: str) -> list[Live[Spec]]:
        return [live for live in account[path] if live.id not in owned]

    made = Proposal()
    volume = made.choose(VOLUME, free("network-volumes"), asked.get(VOLUME, ""))
    endpoints = [
        live
        for live in free("serverless")
        if live.id in asked.values() or (volume is not None and volume.id in live.values["volume_ids"])
    ]
    ops = made.choose(OPS, [each for each in endpoints if each.values.get("cpu")], asked.get(OPS, ""))
    worker = made.choose(
        WORKER, [each for each in endpoints if each.values.get("gpu_pools")], asked.get(WORKER, "")
    )
    for role, endpoint in ((OPS_TEMPLATE, ops), (WORKER_TEMPLATE, worker)):
        if endpoint is not None:
            image = endpoint.values.get("image")
            made.choose(role, [live for live in free("templates") if live.values.get("image") == image])
    logins = {live.values.get("registry_id") for live in (ops, worker) if live is not None}
    made.choose(CREDENTIAL, [live for live in free("registries") if live.id in logins])
    if worker is not None and not worker.values.get("min_cuda_version"):
        made.notes.append("The GPU endpoint has no min_cuda_version; the configuration always sets one.")
    if ops is not None and len(ops.values["cpu"]) > 1:
        made.notes.append("The ops endpoint has several CPU flavors; the configuration has one.")
    return made


def assignments(keys: Mapping[str, str | list[str]]) -> list[str]:
    """Return the assignments that ``pulumi config set-all --path`` takes; a list is set entry by entry."""
    found = []
    for key, value in keys.items():
        if isinstance(value, list):
            found += [f"{key}[{place}]={each}" for place, each in enumerate(value)]
        else:
            found.append(f"{key}={value}")
    return found


def _describe(live: Live[Spec]) -> str:
    """Say in a few words what an object is."""
    kind, values = live.kind, live.values
    if kind.path == "network-volumes":
        return f"{values['size_gb']} GB in {values['data_center']}"
    if kind.path == "serverless":
        chips = values.get("gpu_pools") or [each["id"] for each in values.get("cpu") or ()]
        return f"{', '.join(chips)}; at most {values['workers_max']} workers; {values.get('image')}"
    return str(values.get("image") or "")
