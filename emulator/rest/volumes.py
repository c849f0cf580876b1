"""Network volumes: grow-only, bound to a data center, kept while something uses them."""

from __future__ import annotations

from emulator import catalog
from emulator.document import Document
from emulator.rest.bodies import CREATE_VOLUME, UPDATE_VOLUME
from emulator.rest.call import Answer, Call
from emulator.rest.problems import conflict, not_found
from emulator.state import State


def list_all(state: State, _: Call) -> Answer:
    """List them."""
    return 200, {
        "networkVolumes": [
            volume for name, volume in state.resources.volumes.items() if state.is_listed(name)
        ]
    }


def create(state: State, call: Call) -> Answer:
    """Make one."""
    body = call.checked(CREATE_VOLUME)
    center = catalog.data_center(body["dataCenter"])
    if center is None or not center.volumes:
        able = ", ".join(center.id for center in catalog.DATA_CENTERS if center.volumes)
        raise conflict(
            f'Data center "{body["dataCenter"]}" not found or does not support network volumes. '
            f"Available data centers: {able}"
        )
    tier = body.get("type", center.volumes[0])
    if tier not in center.volumes:
        raise conflict(f"Data center {center.id} does not offer {tier} network volumes.")
    volume: Document = {
        "id": state.new_id(10),
        "name": body["name"],
        "size": body["size"],
        "dataCenter": center.id,
        "type": tier,
    }
    state.resources.volumes[volume["id"]] = volume
    state.volume_dir(volume["id"])
    state.ledger.keep(volume["id"], tier, volume["size"])
    state.save()
    return 201, volume


def find(state: State, volume_id: str) -> Document:
    """Return a volume or refuse with 404."""
    if volume_id not in state.resources.volumes:
        raise not_found()
    return state.resources.volumes[volume_id]


def get(state: State, call: Call) -> Answer:
    """Show one."""
    return 200, find(state, call.id)


def update(state: State, call: Call) -> Answer:
    """Rename or grow one."""
    body = call.checked(UPDATE_VOLUME)
    volume = find(state, call.id)
    if body.get("size", volume["size"]) < volume["size"]:
        raise conflict(
            f"network volume storage cannot be reduced: size must be at least the current {volume['size']} GB"
        )
    grows = body.get("size", volume["size"]) > volume["size"]
    volume.update(body)
    if grows:
        state.ledger.keep(volume["id"], volume["type"], volume["size"])
    state.save()
    return 200, volume


def delete(state: State, call: Call) -> Answer:
    """Delete one and its files.

    Source: "You must remove …" is what v1 and GraphQL answer; the v2 document names no status for it,
    so this is the least certain of the emulator's refusals (knob `volume_delete_checks_use`).
    """
    volume = find(state, call.id)
    users = [
        endpoint
        for endpoint in state.resources.endpoints.values()
        if call.id in endpoint.body["networkVolumes"]
    ]
    pending = users or state.clock.now() < state.volume_held_until.get(call.id, 0.0)
    if pending and state.limits.volume_delete_checks_use:
        raise conflict("You must remove this network volume from all pods before deleting it")
    state.drop_volume(volume["id"])
    state.save()
    return 204, None
