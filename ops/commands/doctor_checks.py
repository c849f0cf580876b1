"""Looks at a user's set-up and says what is wrong with it, and what to do. Changes nothing, costs nothing."""

import importlib.metadata
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from backend.errors import ApiError, AuthError, ComfyformError, Forbidden
from backend.flow import Reply, Send, check
from backend.flow.http_driver import Http
from backend.runpod.job_api import JobPlane
from backend.settings import VARIABLES, Settings
from ops.registry.load import load
from ops.runpod.api import NETWORK_VOLUMES, RunPodApi
from ops.stores.open import open_bucket

State = Literal["ok", "warning", "problem", "not set"]

CLOCK_S: Final = 60.0
"""Signed requests to S3 carry the time. RunPod's gateway forgives an hour, others five minutes."""
_OLD: Final[Mapping[str, str]] = {
    "rest.runpod.io": "REST v1, which RunPod announced to end on 2026-11-15",
    "/graphql": "GraphQL, which RunPod announced to end in early 2027",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    what: str
    state: State
    detail: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it as JSON."""
        return asdict(self)


def examine(settings: Settings, http: Http, registry: Path) -> Iterator[Finding]:
    """Run all checks, one after the other.

    Args:
        settings: what the user has set.
        http: the driver.
        registry: the registry file to read.
    """
    yield from _control_plane(settings, http)
    yield from _job_plane(settings, http)
    yield from _s3(settings, http)
    yield from _hugging_face(settings, http)
    yield _registry(registry)
    yield from leftovers(settings)


def _control_plane(settings: Settings, http: Http) -> Iterator[Finding]:
    what = "RunPod REST v2"
    key = settings.runpod_api_key
    step = Send("GET", f"{settings.runpod_rest_url}/templates", key=key, timeout_s=15)
    try:
        reply = http.send(step)
    except ApiError as error:
        yield Finding(what, "problem", error.message, f"Check RUNPOD_REST_URL ({settings.runpod_rest_url}).")
        return
    yield clock(reply, time.time())
    if key is None:
        yield Finding("RUNPOD_API_KEY", "problem", "not set", "Make one in RunPod's console and export it.")
        return
    try:
        check(reply, what)
    except (AuthError, Forbidden) as error:
        hint = "Make a key with the right to read and write, in RunPod's console."
        yield Finding("RUNPOD_API_KEY", "problem", error.message, hint)
    except ApiError as error:
        yield Finding(what, "problem", error.message)
    else:
        yield Finding("RUNPOD_API_KEY", "ok", "may read the control plane")
        yield Finding(what, "ok", settings.runpod_rest_url)


def clock(reply: Reply, now: float) -> Finding:
    """Compare this machine's clock with a server's.

    Args:
        reply: any answer with a ``date``.
        now: seconds since the epoch, here.
    """
    try:
        theirs = parsedate_to_datetime(reply.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return Finding("clock", "warning", "the server did not report its time")
    off = now - theirs
    if abs(off) <= CLOCK_S:
        return Finding("clock", "ok", "agrees with RunPod's")
    which = "ahead" if off > 0 else "behind"
    return Finding(
        "clock", "problem", f"{abs(off):.0f} s {which}", "Set it: signed requests will be refused."
    )


def _job_plane(settings: Settings, http: Http) -> Iterator[Finding]:
    for name in ("runpod_endpoint_id", "runpod_ops_endpoint_id"):
        variable, endpoint = VARIABLES[name], getattr(settings, name)
        if endpoint is None:
            yield Finding(variable, "not set", "", 'eval "$(./inv env)" sets it once a stack is up.')
        elif settings.runpod_api_key is not None:
            try:
                plane = JobPlane(settings.runpod_jobs_url, settings.runpod_api_key)
                health = http.run(plane.health(endpoint))
            except ComfyformError as error:
                yield Finding(variable, "problem", str(error))
            else:
                workers = health.get("workers") or {}
                yield Finding(variable, "ok", f"{sum(map(int, workers.values()))} workers")


def _s3(settings: Settings, http: Http) -> Iterator[Finding]:
    names = ("runpod_s3_access_key_id", "runpod_s3_secret_access_key")
    missing = [VARIABLES[name] for name in names if not getattr(settings, name)]
    if missing:
        hint = "Only transport s3 and local files need it; RunPod's console makes the keys."
        yield Finding("S3", "not set", " and ".join(missing), hint)
    elif settings.runpod_volume_id is None or settings.runpod_api_key is None:
        yield Finding("S3", "not set", "RUNPOD_VOLUME_ID or RUNPOD_API_KEY", "Without them it is not tried.")
    else:
        try:
            api = RunPodApi(http, settings.runpod_rest_url, settings.runpod_api_key)
            volume = api.get(NETWORK_VOLUMES, settings.runpod_volume_id)
            bucket = open_bucket(settings, volume.id, str(volume.values["data_center"]))
            bucket.head(".comfyform/doctor")  # there is none; the answer tells whether we may ask
        except ComfyformError as error:
            yield Finding("S3", "problem", str(error))
        else:
            yield Finding("S3", "ok", f"may read volume {volume.id}")


def _hugging_face(settings: Settings, http: Http) -> Iterator[Finding]:
    if settings.hf_token is None:
        yield Finding("HF_TOKEN", "not set", "", "Only gated and private repositories need one.")
        return
    step = Send("GET", f"{settings.hf_endpoint}/api/whoami-v2", key=settings.hf_token, timeout_s=15)
    try:
        told = check(http.send(step), "Hugging Face").json()
    except ApiError as error:
        yield Finding(
            "HF_TOKEN", "problem", error.message, "Make one at https://huggingface.co/settings/tokens."
        )
    else:
        yield Finding(
            "HF_TOKEN", "ok", f"of {told.get('name', 'an unnamed account')}" if isinstance(told, dict) else ""
        )


def _registry(path: Path) -> Finding:
    try:
        found = load(path)
    except ComfyformError as error:
        return Finding("registry", "problem", str(error))
    count = len(found.files())
    unpinned = sum(file.sha256 is None for file in found.files())
    if unpinned:
        hint = "inv models.lock asks the sources and writes them down."
        return Finding("registry", "warning", f"{count} required files, {unpinned} without a sha256", hint)
    return Finding("registry", "ok", f"{count} required files, each with its sha256")


def leftovers(settings: Settings) -> Iterator[Finding]:
    """Find what speaks RunPod's old interfaces: addresses, and the Pulumi provider that needs GraphQL."""
    for name in ("runpod_rest_url", "runpod_jobs_url"):
        url = str(getattr(settings, name))
        parts = urlsplit(url)
        for sign, what in _OLD.items():
            if sign in (parts.hostname or "") or parts.path.endswith(sign):
                default = getattr(Settings(), name)
                yield Finding(VARIABLES[name], "problem", f"{url} is {what}", f"Unset it, or use {default}.")
    try:
        version = importlib.metadata.version("runpodinfra")
    except importlib.metadata.PackageNotFoundError:
        return
    yield Finding(
        "runpodinfra",
        "warning",
        f"version {version} of the old Pulumi provider is installed; it speaks GraphQL",
        "Its stacks stop working in early 2027: declare them with infra.resources and adopt=<id>.",
    )
