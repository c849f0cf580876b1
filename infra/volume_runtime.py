"""What the resources of the workers' software do on their volume: install code, build environments, look.

Everything goes through the ops endpoint. What is there already is kept, so a job that was cut off is simply
submitted again; the worker does one after the other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backend.errors import ConfigError, JobError, NotFound
from infra import provider_session
from infra.engine import progress
from infra.models import ops_fault, words_of_the_stack
from infra.provider_hooks import current_urn, wait
from infra.provider_session import Listing
from infra.runtime_plan import RuntimePlan
from ops.runtime.environment_key import KINDS

if TYPE_CHECKING:  # every program and provider process imports this module; most look at no volume with it
    from ops.stores.runtime_jobs import RuntimeJobs, RuntimeListing

READY: Final = "ready"
"""The state of what is on the volume with the right bytes."""
DAMAGED: Final = "damaged"
_PLACE: Final = ("volume_id",)
_CODE: Final = ("volume_id", "endpoint_id", "sha256", "state")
FOLDER: Final = "generation_folder"
"""An input that is not compared: where this machine has what the code archive's sha256 stands for."""
_ENVIRONMENT: Final = ("volume_id", "endpoint_id", "kind", "key", "base", "state")
_listing: "Final[Listing[RuntimeListing | None]]" = Listing()


def code_problems(props: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell what is wrong with the inputs of a code archive, by property. Pure."""
    return _hash_problems(props, "sha256")


def environment_problems(props: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell what is wrong with the inputs of an environment, by property. Pure."""
    found = _hash_problems(props, "key")
    if (kind := props.get("kind", KINDS[0])) not in KINDS:
        found.append(("kind", f"expected {' or '.join(KINDS)}, got {kind!r}"))
    return found


def _hash_problems(props: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    value = props.get(name, "0" * 64)
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return []
    return [(name, f"expected 64 lowercase hexadecimal digits, got {value!r}")]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Tell which properties differ, and which of those mean another resource. Pure."""
    names = dict.fromkeys([*_CODE, *_ENVIRONMENT])
    own = [name for name in names if not (name == "sha256" and "key" in new)]
    changed = [name for name in own if new.get(name) != old.get(name)]
    return changed, [name for name in changed if name in (*_PLACE, "kind")]


def install(props: Mapping[str, Any]) -> dict[str, Any]:
    """Put the code archive onto the volume, and return the resource's whole state.

    Raises:
        ConfigError: the files have changed since the program hashed them.
        ComfyformError: the volume does not have it; what was there before is untouched.
    """
    code = RuntimePlan.of(Path(props[FOLDER]) if props.get(FOLDER) else None).code
    if code.sha256 != props["sha256"]:
        raise ConfigError(
            "The code has changed while this `up` was running.", hint="Run the same command again."
        )
    try:
        with words_of_the_stack(props):
            _jobs(props).install(code.sha256, code.data)
    finally:
        _listing.forget(_key(props))
    return {**code_inputs(props), "size_bytes": len(code.data), "state": READY}


def build(props: Mapping[str, Any]) -> dict[str, Any]:
    """Have the environment built, and return the resource's whole state.

    Raises:
        ComfyformError: it could not be built.
    """
    tell = progress.Teller(current_urn())
    try:
        with words_of_the_stack(props):
            record = _jobs(props).build(
                props["kind"], props["key"], props["base"], on_event=lambda event: tell(_sentence(event))
            )
    finally:
        _listing.forget(_key(props))
    return _environment_state(props, record, READY)


def look_for_code(props: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the state of a code archive as the volume has it, or None where it is gone."""
    found, known = _look(props)
    if not known:
        return dict(props)
    if found is None or props["sha256"] not in found.code:
        return None
    state = DAMAGED if _is_damaged(found, props["sha256"]) else READY
    return {**code_inputs(props), "size_bytes": props.get("size_bytes"), "state": state}


def look_for_environment(props: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the state of an environment as the volume has it, or None where it is gone."""
    found, known = _look(props)
    if not known:
        return dict(props)
    record = found.environment(props["key"]) if found is not None else None
    if found is None or record is None:
        return None
    damaged = _is_damaged(found, props["key"]) or _is_damaged(found, str(record.get("sha256")))
    return _environment_state(props, record, DAMAGED if damaged else READY)


def _look(props: Mapping[str, Any]) -> "tuple[RuntimeListing | None, bool]":
    """List the volume once for all resources on it.

    Returns:
        The listing, None where the volume is gone; and whether anything is known.
    """
    try:
        return _listing.get(_key(props), lambda: _list(props)), True
    except (JobError, NotFound) as error:
        reason = f"ops endpoint {props.get('endpoint_id')} did not list it: {error.message}"
        progress.warn(
            f"Volume {props['volume_id']} cannot be read, so the workers' software on it keeps its last "
            f"known state: {reason.rstrip('.')}. `pulumi up` repairs the ops endpoint; then refresh again."
        )
        return None, False


def _list(props: Mapping[str, Any]) -> "RuntimeListing | None":
    from ops.runpod.api import NETWORK_VOLUMES

    try:
        provider_session.api().get(NETWORK_VOLUMES, props["volume_id"])
    except NotFound:
        return None
    if reason := ops_fault({**props, "transport": "job"}):
        raise JobError(reason)
    return _jobs(props).listing()


def _is_damaged(found: "RuntimeListing", name: str) -> bool:
    return any(name in each for each in found.damaged)


def code_inputs(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that would declare a state of a code archive. Pure."""
    return {name: props[name] for name in (*_CODE, FOLDER) if props.get(name) is not None}


def environment_inputs(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that would declare a state of an environment. Pure."""
    return {name: props[name] for name in _ENVIRONMENT if props.get(name) is not None}


def _environment_state(props: Mapping[str, Any], record: Mapping[str, Any], state: str) -> dict[str, Any]:
    built = {"sha256": record.get("sha256"), "size_bytes": record.get("size")}
    return {**environment_inputs(props), **built, "state": state}


def _sentence(event: Mapping[str, Any]) -> str:
    """Say where a build is: ``download 31 % Collecting torch==2.10.0``."""
    phase, percent = str(event.get("phase") or "working"), event.get("percent")
    share = f"{percent:.0f} %" if isinstance(percent, int | float) else ""
    # pip says from which file, too.
    message = str(event.get("message") or "").partition(" (from ")[0]
    return " ".join(filter(None, (phase, share, message)))


def _key(props: Mapping[str, Any]) -> tuple[object, ...]:
    return props["volume_id"], props.get("endpoint_id")


def _jobs(props: Mapping[str, Any]) -> "RuntimeJobs":
    from backend.runpod.job_api import JobPlane  # its client loads only where the volume is changed
    from ops.stores.runtime_jobs import RuntimeJobs

    settings = provider_session.settings()
    key = settings.need("runpod_api_key", "jobs need RunPod's API key")
    plane = JobPlane(settings.runpod_jobs_url, key)
    return RuntimeJobs(provider_session.http(), plane, str(props["endpoint_id"]), wait)
