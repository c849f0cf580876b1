"""What a Model resource does on its volume: make a file be there, look at it, remove it.

No byte passes through here with transport ``job``: the ops endpoint's worker
fetches, and a job that was cut off is picked up where the bytes are.

To look at a volume, the ops endpoint is needed, which may have drifted itself.
Then nothing is known of the files: the models keep their last known state, and
the refresh goes on.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from backend.contract import FileRecord, ProvisionedFile, ProvisionProgress, WantedFile
from backend.errors import InvalidArgument, JobError, NotFound
from infra import provider_session
from infra.engine import progress
from infra.provider_session import Listing
from ops.models.inventory import Inventory
from ops.models.source_url import parse
from ops.models.volume_layout import check_wanted_path

if TYPE_CHECKING:
    from ops.runpod.api import Live
    from ops.runpod.specs import EndpointSpec, NetworkVolumeSpec
    from ops.runpod.transports import Transport
    from ops.stores.model_store import ModelStore

VERIFIED: Final = "verified"
"""The state of every wanted file: it is there, complete, with the right bytes."""

_PLACE: Final = ("volume_id", "path")
_CONTENT: Final = ("source", "size_bytes", "sha256", "state")
_ACCESS: Final = ("endpoint_id", "transport", "data_center")
# Whether pickled code is accepted decides about bytes on their way in, not about a file that is there.
_DECLARED: Final = (*_PLACE, *_CONTENT, *_ACCESS, "allow_pickle", "urn")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A volume that is there and cannot be looked at now."""

    reason: str


_listing: Final[Listing[Inventory | Unreadable | None]] = Listing()


def problems(props: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell what is wrong with a wanted file, by property. Pure."""
    found: list[tuple[str, str]] = []
    for name, judge in (("path", check_wanted_path), ("source", parse)):
        if isinstance(value := props.get(name), str):
            try:
                judge(value)
            except InvalidArgument as error:
                found.append((name, str(error)))
    if str(props.get("source", "")).startswith("local:") and props.get("transport") == "job":
        found.append(("source", "a local file gets to the volume only with transport: s3"))
    if not isinstance(sha256 := props.get("sha256", ""), str) or len(sha256) not in (0, 64):
        found.append(("sha256", "a sha256 has 64 hexadecimal digits"))
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Tell which properties differ, and which of those mean another file. Pure."""
    changed = [
        name
        for name in (*_PLACE, *_CONTENT, *_ACCESS)
        if new.get(name) is not None and new[name] != old.get(name)
    ]
    return changed, [name for name in changed if name in _PLACE]


def identity(props: Mapping[str, Any]) -> str:
    """Return the id: the volume and the path on it."""
    return f"{props['volume_id']}/{props['path']}"


def provision(props: Mapping[str, Any]) -> dict[str, Any]:
    """Make the file be there, verified, and return the resource's whole state.

    Raises:
        ComfyformError: it could not be had; a file that was there before is untouched.
    """
    size = props.get("size_bytes")
    wanted = WantedFile(
        path=props["path"],
        source=props["source"],
        size_bytes=None if size is None else int(size),
        sha256=props.get("sha256"),
    )
    if props.get("allow_pickle"):
        wanted["allow_pickle"] = True
    tell = progress.Teller(str(props.get("urn", "")))

    def show(event: ProvisionProgress) -> None:
        total = event.get("total_bytes")
        of = f" of {progress.size(total)} ({event['done_bytes'] / total:.0%})" if total else ""
        tell(f"{progress.size(event['done_bytes'])}{of}")

    try:
        with words_of_the_stack(props):
            (file,) = _store(props).provision([wanted], on_progress=show)
    finally:
        _listing.forget(_key(props))
    _report_adoption(file, str(props.get("urn", "")))
    # A wanted hash is what the program says and the file has; else it is what came.
    return {**declared(props), "size_bytes": file["size_bytes"], "sha256": file["sha256"], "state": VERIFIED}


def _report_adoption(file: ProvisionedFile, urn: str) -> None:
    """Tell what happened to files of other hands on the volume."""
    if moved_from := file.get("moved_from"):
        progress.log(f"Moved from {moved_from}; nothing was fetched.", urn=urn, ephemeral=False)
    if set_aside := file.get("set_aside"):
        progress.warn(
            f"The file that was there before has other bytes. It is kept as {set_aside}; "
            "`inv models.prune` deletes it.",
            urn=urn,
        )


def look(props: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the resource's state as the volume has it, or None where the file is gone.

    One inventory serves all models of a volume. Where the ops endpoint cannot make one, the state stays.

    Raises:
        ComfyformError: RunPod does not answer. That never looks like "gone".
    """
    inventory = _listing.get(_key(props), lambda: _inventory(props))
    if inventory is None:
        return None
    if isinstance(inventory, Unreadable):
        return dict(props)
    record = inventory.files.get(props["path"])
    if record is None:
        return None
    return {
        **declared(props),
        "size_bytes": record["size_bytes"],
        "sha256": record["sha256"] or "",
        "state": _state(props, record),
    }


def _inventory(props: Mapping[str, Any]) -> Inventory | Unreadable | None:
    """List the volume, or return None where it is gone; warn, once, where it cannot be looked at."""
    try:
        _get_volume(props)
    except NotFound:
        return None
    try:
        reason = ops_fault(props)
        if not reason:
            return _store(props).inventory()
    except (JobError, NotFound) as error:
        reason = f"ops endpoint {props.get('endpoint_id')} did not list it: {error.message}"
    progress.warn(
        f"Volume {props['volume_id']} cannot be read, so its models keep their last known state: "
        f"{reason.rstrip('.')}. `pulumi up` repairs the ops endpoint; then refresh again."
    )
    return Unreadable(reason)


def ops_fault(props: Mapping[str, Any]) -> str:
    """Say why the ops endpoint cannot look at the volume, or nothing."""
    if props.get("transport") != "job":
        return ""
    endpoint_id, volume_id = props["endpoint_id"], props["volume_id"]
    try:
        endpoint = _get_endpoint(props)
    except NotFound:
        return f"ops endpoint {endpoint_id} was not found at RunPod"
    if volume_id not in endpoint.values["volume_ids"]:
        return f"ops endpoint {endpoint_id} does not have the volume"
    if endpoint.values["workers_max"] == 0:
        return f"ops endpoint {endpoint_id} has workers_max 0, so no worker can start"
    return ""


@contextlib.contextmanager
def words_of_the_stack(props: Mapping[str, Any]) -> Iterator[None]:
    """Let a missing ops endpoint or volume speak of the stack, not of the ops commands' variables."""
    try:
        yield
    except NotFound as error:
        error.hint = (
            f"Ops endpoint {props.get('endpoint_id')} or volume {props['volume_id']} of this stack is gone: "
            "`pulumi up --refresh` detects that and creates it again."
        )
        raise


def declared(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that would declare a state, so that drift shows property by property. Pure."""
    return {name: props[name] for name in _DECLARED if props.get(name) is not None}


def remove(props: Mapping[str, Any]) -> None:
    """Remove the file; a file or a volume that is gone is not an error.

    So is an ops endpoint that has moved on to another volume: the file goes with its own.
    """
    try:
        _get_volume(props)
        if props.get("transport") == "job":
            endpoint = _get_endpoint(props)
            if props["volume_id"] not in endpoint.values["volume_ids"]:
                return
    except NotFound:
        return
    try:
        _store(props).remove([props["path"]])
    finally:
        _listing.forget(_key(props))


def _state(props: Mapping[str, Any], record: FileRecord) -> str:
    """Say in a few words what a file on the volume is, against what was once verified."""
    if props.get("size_bytes") is not None and int(props["size_bytes"]) != record["size_bytes"]:
        return "damaged: its size changed"
    if record["sha256"] is None:
        return "unverified: it has no record of its bytes"
    if props.get("sha256") and props["sha256"] != record["sha256"]:
        return "damaged: its bytes changed"
    return VERIFIED


def _key(props: Mapping[str, Any]) -> tuple[object, ...]:
    return props["volume_id"], props.get("endpoint_id"), props.get("transport")


# RunPod's control plane loads pydantic, which a run without changes does not need.
def _get_volume(props: Mapping[str, Any]) -> "Live[NetworkVolumeSpec]":
    from ops.runpod.api import NETWORK_VOLUMES

    return provider_session.api().get(NETWORK_VOLUMES, props["volume_id"])


def _get_endpoint(props: Mapping[str, Any]) -> "Live[EndpointSpec]":
    from ops.runpod.api import ENDPOINTS

    return provider_session.api().get(ENDPOINTS, props["endpoint_id"])


def _store(props: Mapping[str, Any]) -> "ModelStore":
    from ops.stores.open import open_store  # its clients load only where a volume is looked at

    return open_store(
        provider_session.settings(),
        provider_session.http(),
        transport=cast("Transport", props.get("transport", "job")),
        endpoint_id=props.get("endpoint_id"),
        volume_id=props["volume_id"],
        data_center=props.get("data_center"),
    )
