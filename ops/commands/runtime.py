"""What ``inv runtime.list`` and ``runtime.prune`` do: the workers' software on the volume."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from backend.errors import ConfigError
from backend.flow.http_driver import Http
from backend.runpod.job_api import JobPlane
from backend.settings import Settings
from ops.console.console import Console, opened
from ops.files.amounts import amount
from ops.runpod.api import ENDPOINTS, Live, RunPodApi
from ops.runpod.specs import EndpointSpec
from ops.stores.queue_notice import QueueWatch
from ops.stores.runtime_jobs import RuntimeJobs, RuntimeListing

_VARIABLES: Final = (
    "COMFYFORM_CODE",
    "COMFYFORM_ENVIRONMENT",
    "COMFYFORM_ENVIRONMENT_SHA256",
    "COMFYFORM_OPS_ENVIRONMENT",
    "COMFYFORM_OPS_ENVIRONMENT_SHA256",
)
"""Of an endpoint's environment: each names a code archive or an environment by its hash."""
_SHORT: Final = 12
"""Digits of a hash that a table shows."""


@dataclass(frozen=True, slots=True)
class _Volume:
    """A volume's software, and who uses it.

    Attributes:
        users: hash → names of the endpoints whose workers start from it.
    """

    jobs: RuntimeJobs
    users: Mapping[str, list[str]]


def list_runtime(*, json: bool = False, settings: Settings | None = None) -> int:
    """List code archives and Python environments on the volume, and which endpoints start from them.

    Args:
        json: give JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    with _volume(settings, console) as volume:
        found = volume.jobs.listing()
    rows = _rows(found, volume.users)
    console.data(
        {
            "code": [{"sha256": name, "endpoints": volume.users.get(name, [])} for name in found.code],
            "environments": [
                {**record, "endpoints": volume.users.get(str(record.get("key")), [])}
                for record in found.environments
            ],
            "damaged": list(found.damaged),
        }
    )
    console.table(["what", "name", "size>", "built", "endpoints"], rows)
    for path in found.damaged:
        console.warn(f"Not whole: {path}. `pulumi up` repairs what an endpoint uses, runtime.prune the rest.")
    return 0


def prune(*, yes: bool = False, json: bool = False, settings: Settings | None = None) -> int:
    """Delete the code archives and environments on the volume that no endpoint of the account uses.

    Args:
        yes: do not ask.
        json: give JSON.
        settings: by default those of the environment.

    Raises:
        ConfigError: it must be confirmed, and stdin is not a terminal.
    """
    settings, console = opened(settings, json=json)
    with _volume(settings, console) as volume:
        found = volume.jobs.listing()
        unused = [row for row in _rows(found, volume.users) if not row[-1]]
        if not unused and not found.damaged:
            console.data({"removed": []})
            console.say("Nothing to remove: every archive is in use.")
            return 0
        console.table(["what", "name", "size>", "built", "endpoints"], unused)
        if not yes and not console.ask("Delete these from the volume?"):
            return 0
        removed = volume.jobs.prune(set(volume.users))
    console.data({"removed": list(removed)})
    console.say(f"{len(removed)} deleted.")
    return 0


@contextmanager
def _volume(settings: Settings, console: Console) -> Iterator[_Volume]:
    """Open the volume of the ops endpoint, and read which endpoints start from it.

    Raises:
        MissingSetting: the key or the endpoint's id is not set.
        ConfigError: the endpoint's workers do not start from a volume.
    """
    key = settings.need("runpod_api_key", "RunPod's API needs a key")
    ops = settings.need("runpod_ops_endpoint_id", "the ops endpoint looks after the volume")
    with Http() as http, QueueWatch(console.say) as queue:
        endpoints = RunPodApi(http, settings.runpod_rest_url, key).list_all(ENDPOINTS)
        own = next((each for each in endpoints if each.id == ops), None)
        if own is None:
            raise ConfigError(
                f"Ops endpoint {ops} was not found.", hint="Check RUNPOD_OPS_ENDPOINT_ID, or run inv env."
            )
        if not _names(own):
            raise ConfigError(
                "This stack runs images: its volume holds no software of the workers.",
                hint="comfyform:runtime says which: volume or image.",
            )
        plane = JobPlane(settings.runpod_jobs_url, key)
        yield _Volume(RuntimeJobs(http, plane, ops, on_state=queue), users(endpoints, own))


def users(endpoints: Iterable[Live[EndpointSpec]], own: Live[EndpointSpec]) -> dict[str, list[str]]:
    """Return hash → names of the endpoints that start from it, of all that share a volume with ``own``."""
    volumes = set(own.values.get("volume_ids") or ())
    found: dict[str, list[str]] = {}
    for endpoint in endpoints:
        if volumes & set(endpoint.values.get("volume_ids") or ()):
            for name in _names(endpoint):
                found.setdefault(name, []).append(endpoint.name)
    return found


def _names(endpoint: Live[EndpointSpec]) -> list[str]:
    """Return the hashes that an endpoint's environment names."""
    env: Mapping[str, Any] = endpoint.values.get("env") or {}
    return [str(env[name]) for name in _VARIABLES if env.get(name)]


def _rows(found: RuntimeListing, users: Mapping[str, list[str]]) -> list[list[str]]:
    """Describe what is on the volume, a row each; the last column has its endpoints."""
    rows = [["code", name[:_SHORT], "", "", ", ".join(users.get(name, []))] for name in found.code]
    for record in found.environments:
        key = str(record.get("key"))
        rows.append(
            [
                f"{record.get('kind')} environment",
                key[:_SHORT],
                amount(int(record.get("size") or 0)),
                str(record.get("built_at") or ""),
                ", ".join(users.get(key, [])),
            ]
        )
    return rows
