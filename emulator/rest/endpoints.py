"""Serverless endpoints: made, changed with releases, deleted with their jobs and private template."""

from __future__ import annotations

from datetime import UTC, datetime

from emulator.document import Document
from emulator.rest import endpoint_rules, templates, volumes
from emulator.rest.bodies import UPDATE_ENDPOINT, create_endpoint_rules
from emulator.rest.call import Answer, Call
from emulator.rest.problems import Problem, conflict, not_found, unprocessable
from emulator.state import Endpoint, State


def list_all(state: State, _: Call) -> Answer:
    """List them."""
    endpoints = state.resources.endpoints.items()
    return 200, {"endpoints": [endpoint.body for name, endpoint in endpoints if state.is_listed(name)]}


def create(state: State, call: Call) -> Answer:
    """Make one; nothing about it waits for workers."""
    body = call.checked(*create_endpoint_rules(call.body))
    template = _serverless_template(state, body)
    created = endpoint_rules.created(body, template, state.limits.endpoint_timeout_default_ms)
    _check_surroundings(state, created, None)
    endpoint_id = state.new_id()
    created = {
        "id": endpoint_id,
        "name": created["name"],
        "type": created["type"],
        "requestUrls": _urls(state, endpoint_id, created),
    } | created
    created["createdAt"] = timestamp(state.clock.now())
    bound = {"id": state.new_id(10), "name": f"{created['name']}__template__{endpoint_id}"}
    bound |= templates.DEFAULTS | {name: created[name] for name in endpoint_rules.CONTAINER_DEFAULTS}
    state.resources.templates[bound["id"]] = bound | {"serverless": True, "boundTo": endpoint_id}
    endpoint = Endpoint(created, bound["id"], made_from=body.get("templateId"))
    endpoint.releases.append(_release(state, 1, []))
    state.resources.endpoints[endpoint_id] = endpoint
    state.save()
    state.wake()
    return 201, created


def find(state: State, endpoint_id: str) -> Endpoint:
    """Return an endpoint or refuse with 404."""
    if endpoint_id not in state.resources.endpoints:
        raise not_found()
    return state.resources.endpoints[endpoint_id]


def get(state: State, call: Call) -> Answer:
    """Show one."""
    return 200, find(state, call.id).body


def update(state: State, call: Call) -> Answer:
    """Change one: workers, scaling, time-out and name at once, the rest as a release that rolls out."""
    body = call.checked(UPDATE_ENDPOINT)
    endpoint = find(state, call.id)
    after = endpoint_rules.updated(endpoint.body, body, _serverless_template(state, body))
    _check_surroundings(state, after, endpoint)
    diff = endpoint_rules.release_diff(endpoint.body, after)
    if endpoint.body["workers"]["max"] == 0 and after["workers"]["max"]:
        endpoint.paused_until = state.clock.now() + state.limits.unpause_delay_s
    endpoint.body = after
    bound = state.resources.templates[endpoint.template_id]
    bound.update({name: after[name] for name in endpoint_rules.CONTAINER_DEFAULTS})
    if diff:
        endpoint.version += 1
        endpoint.releases.insert(0, _release(state, endpoint.version, diff))
    state.save()
    state.wake()
    return 200, after


def delete(state: State, call: Call) -> Answer:
    """Delete one, with its jobs, workers and private template."""
    endpoint = find(state, call.id)
    del state.resources.endpoints[call.id]
    state.resources.templates.pop(endpoint.template_id, None)
    for volume_id in endpoint.body["networkVolumes"]:
        state.volume_held_until[volume_id] = state.clock.now() + state.limits.volume_release_s
    state.save()
    state.wake()
    return 204, None


def timestamp(seconds: float) -> str:
    """Write a time as REST does."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _serverless_template(state: State, body: Document) -> Document | None:
    if "templateId" not in body:
        return None
    template = templates.find(state, body["templateId"], own=False)
    if not template["serverless"]:
        raise unprocessable(
            "Serverless endpoints cannot use pod templates. Please use a serverless template."
        )
    return template


def _check_surroundings(state: State, endpoint: Document, current: Endpoint | None) -> None:
    """Check what an endpoint refers to, and the account's worker quota."""
    templates.check_container(state, endpoint)
    centers: set[str] = set()
    for volume_id in endpoint["networkVolumes"]:
        try:
            center = volumes.find(state, volume_id)["dataCenter"]
        except Problem:
            raise conflict(f"network volume {volume_id!r} not found") from None
        if center in centers:
            raise conflict(f"at most one network volume per data center: {center} has two")
        centers.add(center)
    others = sum(
        other.body["workers"]["max"] for other in state.resources.endpoints.values() if other is not current
    )
    quota = state.limits.worker_quota
    if others + endpoint["workers"]["max"] > quota:
        raise conflict(f"Max workers across all endpoints must not exceed your workers quota ({quota}).")


def _release(state: State, version: int, diff: list[Document]) -> Document:
    return {
        "id": state.new_id(10),
        "version": version,
        "source": "MANUAL",
        "buildId": None,
        "createdByUserId": "user_emulator",
        "createdAt": timestamp(state.clock.now()),
        "diff": diff,
    }


def _urls(state: State, endpoint_id: str, endpoint: Document) -> dict[str, str]:
    """Return the addresses of an endpoint; a load balancer's own host is a path here."""
    if endpoint["type"] == "LOAD_BALANCER":
        base = f"{state.url}/lb/{endpoint_id}"
        return {"base": base, "health": base + endpoint["env"].get("HEALTH_CHECK_PATH", "/ping")}
    base = f"{state.url}/jobs/v2/{endpoint_id}"
    return {
        "run": f"{base}/run",
        "runSync": f"{base}/runsync",
        "status": f"{base}/status/{{job_id}}",
        "stream": f"{base}/stream/{{job_id}}",
        "cancel": f"{base}/cancel/{{job_id}}",
        "retry": f"{base}/retry/{{job_id}}",
        "purgeQueue": f"{base}/purge-queue",
        "health": f"{base}/health",
    }
