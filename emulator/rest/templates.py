"""Templates: snapshots of a container's configuration."""

from __future__ import annotations

from emulator import catalog
from emulator.document import Document
from emulator.rest.bodies import CREATE_TEMPLATE, UPDATE_TEMPLATE
from emulator.rest.call import Answer, Call
from emulator.rest.problems import conflict, not_found, unprocessable
from emulator.state import State

DEFAULTS: Document = {
    "args": "",
    "disk": 50,
    "mounts": {},
    "ports": [],
    "env": {},
    "registry": None,
    "serverless": False,
    "public": False,
    "category": "NVIDIA",
    "startSsh": True,
    "startJupyter": True,
    "allowedCudaVersions": [],
}


def shown(template: Document) -> Document:
    """Return a template as REST shows it.

    Source: the service omits empty `mounts` although the document requires it (review of
    runpod-python#584, 2026-09).
    """
    hidden = {"boundTo"} | (set() if template["mounts"] else {"mounts"})
    return {name: value for name, value in template.items() if name not in hidden}


def list_all(state: State, _: Call) -> Answer:
    """List the account's own, without those that are private to an endpoint."""
    own = [template for template in state.resources.templates.values() if not template["boundTo"]]
    return 200, {"templates": [shown(template) for template in own if state.is_listed(template["id"])]}


def create(state: State, call: Call) -> Answer:
    """Make one."""
    body = call.checked(CREATE_TEMPLATE)
    check_container(state, body)
    template = {
        "id": state.new_id(),
        "name": body["name"],
        "image": body["image"],
        **DEFAULTS,
        **body,
        "boundTo": None,
    }
    state.resources.templates[template["id"]] = template
    state.save()
    return 201, shown(template)


def check_container(state: State, body: Document) -> None:
    """Refuse a credential that is not there, and an image that its registry does not have."""
    if body.get("registry") and body["registry"] not in state.resources.registries:
        raise conflict(f"container registry credential {body['registry']!r} not found")
    if body.get("image") in state.limits.missing_images:
        raise unprocessable(f"image {body['image']!r} was not found in its registry")


def find(state: State, template_id: str, *, own: bool) -> Document:
    """Return a template or refuse with 404; a public one will do unless it must be `own`."""
    template = state.resources.templates.get(template_id)
    if template is not None:
        return template
    public = next((item for item in catalog.PUBLIC_TEMPLATES if item["id"] == template_id), None)
    if own or public is None:
        raise not_found()
    return public


def get(state: State, call: Call) -> Answer:
    """Show one, own or public."""
    return 200, shown(find(state, call.id, own=False))


def update(state: State, call: Call) -> Answer:
    """Change one; what was made from it before stays as it is."""
    body = call.checked(UPDATE_TEMPLATE)
    template = find(state, call.id, own=True)
    check_container(state, body)
    changes = {name: value for name, value in body.items() if name != "mounts" or value}
    template.update(changes)
    state.save()
    return 200, shown(template)


def delete(state: State, call: Call) -> Answer:
    """Delete one that nothing is bound to."""
    template = find(state, call.id, own=True)
    sources = {endpoint.made_from for endpoint in state.resources.endpoints.values()}
    if template["boundTo"] or (state.limits.template_delete_checks_use and call.id in sources):
        raise conflict("Template is in use by a pod or serverless endpoint and cannot be deleted")
    del state.resources.templates[call.id]
    state.save()
    return 204, None
