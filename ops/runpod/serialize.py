"""Turns declared values into RunPod's JSON and back, by the table in ``ops.runpod.specs``. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

from ops.runpod.specs import Spec, Wire, same, wires

_NOTHING: Any = object()


def creation(spec: type[Spec], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that creates a resource: every declared field."""
    body: dict[str, Any] = {}
    for name, wire in wires(spec).items():
        value = values.get(name)
        # RunPod refuses some empty values on create that it takes in a patch, so they stay out.
        if value is not None and not (wire.absent is not None and not value):
            _put(body, wire.path, _outward(wire, value))
    _name_scaler(body)
    return body


def patch(spec: type[Spec], values: Mapping[str, Any], changed: Collection[str]) -> dict[str, Any]:
    """Return the body that brings the changed fields to their values.

    A nested group goes out whole: to RunPod, ``gpu.pools`` without
    ``excludedTypes`` means that nothing is excluded any more.
    """
    groups = {wires(spec)[name].path.partition(".")[0] for name in changed}
    body: dict[str, Any] = {}
    for name, wire in wires(spec).items():
        value = values.get(name)
        if value is None or wire.path.partition(".")[0] not in groups:
            continue
        cleared = wire.null_clears and not value
        _put(body, wire.path, None if cleared else _outward(wire, value))
    _name_scaler(body)
    return body


def reading(spec: type[Spec], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that an answer shows; what RunPod never shows is left out."""
    values: dict[str, Any] = {}
    for name, wire in wires(spec).items():
        if wire.secret:
            continue
        value = _dig(body, wire.path)
        if value is _NOTHING or value is None:
            value = list(wire.absent) if isinstance(wire.absent, tuple) else wire.absent
        else:
            value = _inward(wire, value)
        if value is not None:
            values[name] = value
    return values


def changes(spec: type[Spec], old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name the declared fields whose value differs, in the table's order.

    A field that ``new`` does not declare is ignored.
    """
    return [
        name
        for name, wire in wires(spec).items()
        if new.get(name) is not None and not same(wire, old.get(name), new[name])
    ]


def _outward(wire: Wire, value: Any) -> Any:
    if wire.scale != 1:
        return int(value * wire.scale)
    if wire.path == "cpu":
        return [{"id": entry["id"], "vcpuCount": int(entry["vcpu_count"])} for entry in value]
    return value


def _inward(wire: Wire, value: Any) -> Any:
    if wire.scale != 1:
        return value // wire.scale if value % wire.scale == 0 else value / wire.scale
    if wire.path == "cpu":
        return [{"id": entry.get("id"), "vcpu_count": entry.get("vcpuCount")} for entry in value]
    return value


def _name_scaler(body: dict[str, Any]) -> None:
    """Add the discriminator of the union that RunPod calls scaling."""
    if (scaling := body.get("scaling")) is not None:
        scaling["type"] = "QUEUE_DELAY" if "queueDelay" in scaling else "REQUEST_COUNT"


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    *groups, key = path.split(".")
    for group in groups:
        body = body.setdefault(group, {})
    body[key] = value


def _dig(body: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(body, Mapping) or key not in body:
            return _NOTHING
        body = body[key]
    return body
