"""The published OpenAPI document of REST v2 as a judge of the emulator, where the document is at hand.

It lies outside the repository (`../shared/specs`); without it nothing is judged, and the tests' own claims
remain.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

PATH = Path(__file__).parents[3] / "shared/specs/runpod-rest-v2.openapi.json"


@cache
def document() -> dict[str, Any] | None:
    """Return the document, or None where it is not at hand."""
    return json.loads(PATH.read_text()) if PATH.exists() else None


@cache
def registry() -> Any:
    """Return what resolves the references of the document."""
    resource = DRAFT202012.create_resource(document())
    return Registry().with_resource("urn:rest-v2", resource)


def problems(method: str, path: str, reply: httpx.Response) -> list[str]:
    """Return every way in which a reply does not conform: status, media type, body, headers."""
    if document() is None:
        return []
    template, operation = _operation(method, path)
    if operation is None:
        return [f"{method} {path} is not in the document"]
    responses = operation["responses"]
    declared = responses.get(str(reply.status_code), responses["default"])
    if "$ref" in declared:
        declared = _at(declared["$ref"])
    media = reply.headers.get("content-type", "").split(";")[0]
    content = declared.get("content", {})
    if not content:
        return [] if not reply.content else [f"{method} {template}: a body where there is none"]
    if media not in content:
        return [f"{method} {template}: {media}, not {list(content)}"]
    if media == "text/event-stream":
        return []
    body = reply.json()
    if template.startswith("/v2/templates"):
        # The service leaves empty mounts out although the document requires them (runpod-python#584).
        for item in body.get("templates", [body]):
            item.setdefault("mounts", {})
    schema = content[media]["schema"]
    validator = Draft202012Validator({"$ref": "urn:rest-v2" + schema["$ref"]}, registry=registry())
    return [
        f"{method} {template} {error.json_path}: {error.message}" for error in validator.iter_errors(body)
    ]


def allows(method: str, path: str, body: Any) -> bool:
    """Tell whether the document's schema takes a request body; yes where the document is not at hand."""
    if document() is None:
        return True
    template, operation = _operation(method, path)
    assert operation is not None, f"{method} {template}"
    return _request_validator(method, template).is_valid(body)


@cache
def _request_validator(method: str, template: str) -> Draft202012Validator:
    request = (document() or {})["paths"][template][method.lower()]["requestBody"]
    if "$ref" in request:
        request = _at(request["$ref"])
    schema = request["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = {"$ref": "urn:rest-v2" + schema["$ref"]}
    return Draft202012Validator(schema, registry=registry())


def _operation(method: str, path: str) -> tuple[str, dict[str, Any] | None]:
    known = document() or {}
    path = "/v2" + path.partition("?")[0]
    # Fixed names before parameters: /registries/delegations is no registry.
    for template in sorted(known["paths"], key=lambda name: name.count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return template, known["paths"][template].get(method.lower())
    return path, None


def _at(reference: str) -> dict[str, Any]:
    found: Any = document()
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)
