"""The schemas of tools, made from what the verbs declare."""

from typing import Any, Final

from backend.verbs.catalog import find
from backend.verbs.params import Param
from mcp_server import confirm
from mcp_server.tool import PATIENCE_S, Schema, an_object

PATIENCE_MOST_S: Final = 600.0

EXACT_IN_JSON: Final = 2**53 - 1
"""A larger integer comes out of a JavaScript client as another number."""

_INPUT: Final = (
    "A path on this machine, the path of an earlier result, an https:// address, or the name of a file "
    "that the ComfyUI already has, such as avatars/odin.png."
)
_OUTPUT: Final = (
    "A name for the result below the output folder, for example odin/speech.flac; by default one is made up. "
    "An existing file is replaced."
)

WAITING: Final[dict[str, Schema]] = {
    "timeout_s": {
        "type": "number",
        "minimum": 0,
        "maximum": PATIENCE_MOST_S,
        "default": PATIENCE_S,
        "description": "Seconds to wait for the result. A job that takes longer goes on, and the answer "
        "names it for the job tool. 0 only submits it.",
    }
}
SPENDING: Final[dict[str, Schema]] = {confirm.ARGUMENT: confirm.SCHEMA}
BACKEND: Final[dict[str, Schema]] = {
    "backend": {
        "type": "string",
        "description": "Where it runs: local, runpod or another that is installed; by default what "
        "COMFY_BACKEND says. See backend_status.",
    }
}


def for_verb(verb: str) -> Schema:
    """Return the parameters of a generation tool: those of the verb, and how to wait for it."""
    params = find(verb).params
    properties = {name: property_of(param) for name, param in params.items()}
    required = tuple(name for name, param in params.items() if param.required)
    return an_object({**properties, **BACKEND, **WAITING, **SPENDING}, required=required)


def property_of(param: Param) -> Schema:
    """Return the schema of one argument."""
    made: Schema = {**_shape(param), "description": param.sentence}
    if param.what == "path":
        made["description"] = _OUTPUT
    elif param.what == "input":
        made["description"] = f"{param.sentence} {_INPUT}"
    if param.default is not None:
        made["default"] = param.default
    return made


def _shape(param: Param) -> Schema:
    match param.what:
        case "text" | "path" | "input":
            return {"type": "string", **({"minLength": 1} if param.required else {})}
        case "choice":
            return {"type": "string", "enum": list(param.choices)}
        case "boolean":
            return {"type": "boolean"}
        case "integer" | "number":
            return {"type": param.what, **_bounds(param)}
        case "loras":
            strength: Schema = {"type": "number", "minimum": -10, "maximum": 10, "default": 1.0}
            lora = an_object(
                {"name": {"type": "string"}, "strength_model": strength, "strength_clip": strength},
                required=("name",),
            )
            return {"type": "array", "items": lora}
        case "inputs":
            return {"type": "object", "additionalProperties": {"type": "string"}}
        case "graph":
            return {"type": "object"}


def _bounds(param: Param) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    if param.low is not None:
        bounds["minimum"] = param.low
    if param.high is not None:
        bounds["maximum"] = min(param.high, EXACT_IN_JSON)
    if param.step is not None:
        bounds["multipleOf"] = param.step
    return bounds
