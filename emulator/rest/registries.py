"""Container registry credentials: written once, never shown."""

from __future__ import annotations

from emulator.rest.bodies import CREATE_REGISTRY
from emulator.rest.call import Answer, Call
from emulator.rest.problems import not_found
from emulator.state import State


def list_all(state: State, _: Call) -> Answer:
    """List them."""
    registries = state.resources.registries.items()
    return 200, {"registries": [registry for name, registry in registries if state.is_listed(name)]}


def create(state: State, call: Call) -> Answer:
    """Make one. Nothing here pulls images, so the password is not even kept."""
    body = call.checked(CREATE_REGISTRY)
    registry = {"id": state.new_id(), "name": body["name"]}
    state.resources.registries[registry["id"]] = registry
    state.save()
    return 201, registry


def get(state: State, call: Call) -> Answer:
    """Show one."""
    if call.id not in state.resources.registries:
        raise not_found()
    return 200, state.resources.registries[call.id]


def delete(state: State, call: Call) -> Answer:
    """Delete one. Templates lose the reference; they do not hold it."""
    get(state, call)
    del state.resources.registries[call.id]
    for template in state.resources.templates.values():
        if template["registry"] == call.id:
            template["registry"] = None
    state.save()
    return 204, None
