"""Everything this RunPod remembers, and how it survives a crash.

No HTTP here. One `State` is made at start and passed to every plane.
Resources are kept as the documents that REST v2 shows; `save()` writes them, so a killed emulator
that is started again on the same folder still has them. All of it is used from one event loop.
"""

from __future__ import annotations

import json
import random
import secrets
import shutil
import string
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emulator.control.clock import Clock
from emulator.control.faults import Faults
from emulator.control.limits import Limits
from emulator.control.request_log import RequestLog
from emulator.document import Document
from emulator.jobs.queue import Jobs
from emulator.notifier import Bells
from emulator.usage import Ledger
from emulator.workers.fleet import Fleet


@dataclass(slots=True)
class Endpoint:
    """A serverless endpoint: what REST shows, and what it does not.

    `template_id` is the private template that RunPod binds to the endpoint and deletes with it;
    `made_from` the one that the endpoint was created from.
    """

    body: Document
    template_id: str
    made_from: str | None = None
    version: int = 1
    releases: list[Document] = field(default_factory=list)
    paused_until: float = 0.0
    """Until then jobs are refused although `workers.max` is above 0 again."""


@dataclass(slots=True)
class Resources:
    """What an account owns, by id. A template private to an endpoint has `boundTo`."""

    volumes: dict[str, Document] = field(default_factory=dict)
    templates: dict[str, Document] = field(default_factory=dict)
    registries: dict[str, Document] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Document) -> Resources:
        """Read what `State.save` wrote."""
        endpoints = {name: Endpoint(**value) for name, value in data["endpoints"].items()}
        return cls(data["volumes"], data["templates"], data["registries"], endpoints)


@dataclass(frozen=True, slots=True)
class Keys:
    """The credentials that this RunPod gives out: random, and the same again after a restart."""

    api_key: str
    s3_access_key: str
    s3_secret_key: str
    hf_token: str
    civitai_token: str
    hedra_api_key: str
    comfy_api_key: str

    @classmethod
    def make(cls) -> Keys:
        """Make new ones in the shapes of the real services."""
        return cls(
            api_key="rpa_" + secrets.token_hex(22).upper(),
            s3_access_key="user_" + secrets.token_hex(13),
            s3_secret_key="rps_" + secrets.token_hex(24),
            hf_token="hf_" + secrets.token_hex(17),
            civitai_token=secrets.token_hex(16),
            hedra_api_key=f"key_{secrets.token_hex(8)}:{secrets.token_hex(24)}",
            comfy_api_key="comfyui-" + secrets.token_hex(32),
        )


class State:
    """The whole emulated account.

    Args:
        root: folder that holds everything; `volumes/<id>/` are the network volumes.
        images: container image → command line that stands for it.
        secrets_by_name: RunPod secrets, for `{{ RUNPOD_SECRET_name }}` in environments; the hub's own tokens
            are there as HF_TOKEN and CIVITAI_TOKEN.
    """

    def __init__(
        self,
        root: Path,
        images: dict[str, str] | None = None,
        secrets_by_name: dict[str, str] | None = None,
    ) -> None:
        self.root = root.resolve()
        self.images = images or {}
        self.url = ""
        """`http://127.0.0.1:<port>`, known once the socket is bound."""
        self.clock = Clock()
        self.limits = Limits()
        self.bells = Bells()
        self.faults = Faults(self.bells)
        self.request_log = RequestLog(self.clock)
        self.fleet = Fleet()
        self.created_at: dict[str, float] = {}
        """Resource id → when it was made here; what came from an earlier run is old."""
        self.volume_held_until: dict[str, float] = {}
        """Volume id → when RunPod notices that the endpoint which used it is gone."""
        self.route_globs: list[str] = []
        """Every path that some plane answers, as globs; `server` fills it."""
        self.on_reset: list[Callable[[], Awaitable[None] | None]] = []
        """Called by `reset`, for planes that run or remember things of their own."""
        self.on_close: list[Callable[[], Awaitable[None]]] = []
        """Awaited when the emulator stops: end processes here."""
        self.views: dict[str, Callable[[], Any]] = {}
        """What planes add to `GET /_emulator/state`, by name."""
        for folder in ("volumes", "jobs", "logs", "scratch"):
            (self.root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.keys = self._load_keys()
        self.secrets = {
            "HF_TOKEN": self.keys.hf_token,
            "CIVITAI_TOKEN": self.keys.civitai_token,
            **(secrets_by_name or {}),
        }
        self.resources = self._load_resources()
        self.jobs = Jobs(self.root / "jobs", self.clock, self.limits, self.bells)
        self.ledger = Ledger(self.root / "ledger.json", self.clock)
        self.jobs.on_executed.append(self.ledger.executed)
        self.views["billing"] = self.ledger.shown

    def volume_dir(self, volume_id: str) -> Path | None:
        """Return the folder of a network volume, or None if it does not exist."""
        if volume_id not in self.resources.volumes:
            return None
        folder = self.root / "volumes" / volume_id
        folder.mkdir(exist_ok=True)
        return folder

    def drop_volume(self, volume_id: str) -> None:
        """Delete a network volume and its files."""
        del self.resources.volumes[volume_id]
        self.ledger.drop(volume_id)
        shutil.rmtree(self.root / "volumes" / volume_id, ignore_errors=True)

    def new_id(self, length: int = 8) -> str:
        """Make an id as RunPod does: lowercase letters and digits."""
        name = "".join(random.choices(string.ascii_lowercase + string.digits, k=length))
        self.created_at[name] = self.clock.now()
        return name

    def is_listed(self, resource_id: str) -> bool:
        """Tell whether a resource is old enough to be in the lists."""
        return self.clock.now() >= self.created_at.get(resource_id, 0.0) + self.limits.listing_delay_s

    def save(self) -> None:
        """Write the resources; called after every change, before the reply goes out."""
        write_atomically(self.root / "resources.json", json.dumps(asdict(self.resources)))

    async def reset(self) -> None:
        """Forget everything but the keys: resources, jobs, files, faults, log, knobs, skipped time."""
        # First, so that nothing is left for which a worker would be started while the others end.
        self.resources = Resources()
        self.jobs.clear()
        for callback in self.on_reset:
            waiting = callback()
            if waiting is not None:
                await waiting
        self.limits.reset()
        self.faults.clear()
        self.request_log.clear()
        self.clock.skipped_s = 0.0
        self.created_at.clear()
        self.volume_held_until.clear()
        self.ledger.clear()
        for folder in ("volumes", "jobs", "logs", "scratch"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
            (self.root / folder).mkdir(mode=0o700, exist_ok=True)
        self.save()

    async def close(self) -> None:
        """End what the planes run and every request that waits."""
        for callback in self.on_close:
            await callback()
        self.bells.close()

    def wake(self) -> None:
        """Make everything look again at what is due."""
        self.bells.ring("tick")

    def snapshot(self) -> Document:
        """Return everything that can be asked of this emulator, as JSON."""
        resources = asdict(self.resources)
        return {
            "now": self.clock.now(),
            "volumes": list(resources["volumes"].values()),
            "templates": [body for body in resources["templates"].values() if not body.get("boundTo")],
            "boundTemplates": [body for body in resources["templates"].values() if body.get("boundTo")],
            "endpoints": [endpoint["body"] for endpoint in resources["endpoints"].values()],
            "registries": list(resources["registries"].values()),
            "jobs": [job.shown() | {"endpointId": job.endpoint_id} for job in self.jobs.all()],
            "workers": [worker.snapshot() for worker in self.fleet.workers.values()],
            **{name: view() for name, view in self.views.items()},
        }

    def environment(self) -> dict[str, str]:
        """Return the variables that point every client at this emulator."""
        return {
            "RUNPOD_API_KEY": self.keys.api_key,
            "RUNPOD_REST_URL": f"{self.url}/rest/v2",
            "RUNPOD_JOBS_URL": f"{self.url}/jobs/v2",
            # What RunPod's own clients read: runpod (Python), @runpod/mcp-server, runpod-flash.
            "RUNPOD_API_BASE_URL": f"{self.url}/rest",
            "RUNPOD_ENDPOINT_BASE_URL": f"{self.url}/jobs/v2",
            "RUNPOD_SERVERLESS_API_URL": f"{self.url}/jobs/v2",
            # Not emulated; without these a client would ask the real RunPod.
            "RUNPOD_PUBLIC_GRAPHQL_URL": f"{self.url}/rest/graphql",
            "RUNPOD_AUTHED_GRAPHQL_URL": f"{self.url}/rest/graphql",
            "RUNPOD_S3_URL": f"{self.url}/s3",
            "RUNPOD_S3_ACCESS_KEY_ID": self.keys.s3_access_key,
            "RUNPOD_S3_SECRET_ACCESS_KEY": self.keys.s3_secret_key,
            "HF_ENDPOINT": f"{self.url}/hub",
            "HF_TOKEN": self.keys.hf_token,
            # Xet would send the bytes past the emulated hub.
            "HF_HUB_DISABLE_XET": "1",
            "CIVITAI_URL": f"{self.url}/civitai",
            "CIVITAI_TOKEN": self.keys.civitai_token,
            "HEDRA_API_URL": f"{self.url}/hedra/v3",
            "HEDRA_API_KEY": self.keys.hedra_api_key,
            "COMFYUI_URL": f"{self.url}/comfyui",
            "COMFY_API_URL": f"{self.url}/comfy-api",
            "COMFY_BASE_URL": f"{self.url}/comfy-api",  # what comfy-sdk reads
            "COMFY_API_KEY": self.keys.comfy_api_key,
            "COMFYFORM_ALLOW_HOSTS": "127.0.0.1",
            "EMULATOR_CONTROL_URL": f"{self.url}/_emulator",
        }

    def _load_keys(self) -> Keys:
        path = self.root / "keys.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        keys = Keys(**{**asdict(Keys.make()), **known})
        write_atomically(path, json.dumps(asdict(keys)))
        return keys

    def _load_resources(self) -> Resources:
        path = self.root / "resources.json"
        return Resources.from_json(json.loads(path.read_text())) if path.exists() else Resources()


def write_atomically(path: Path, text: str) -> None:
    """Write a private file (mode 0600) that is either the old one or the whole new one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)
