"""Check a call's arguments against the tool's published schema: what is shown is what is enforced."""

from collections.abc import Mapping
from typing import Any, Final

from backend.errors import InvalidArgument
from mcp_server.tool import Schema

_BOUNDS: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


SHOWN: Final = 80
"""Characters of a wrong value that its sentence repeats."""


def given(schema: Schema, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments without nulls for optional ones: many clients send null for what is not given."""
    required = schema.get("required", ())
    return {name: value for name, value in (arguments or {}).items() if value is not None or name in required}


def check(tool: str, schema: Schema, arguments: Mapping[str, Any]) -> None:
    """Let good arguments through.

    Raises:
        InvalidArgument: some are wrong; the sentence names every one of them.
    """
    from jsonschema import Draft202012Validator

    found = Draft202012Validator(schema).iter_errors(dict(arguments))
    ordered = sorted(found, key=lambda error: [str(part) for part in error.path])
    if ordered:
        # Each missing argument is a finding of its own; the sentence names all of them once.
        problems = dict.fromkeys(_sentence(error) for error in ordered)
        raise InvalidArgument(f"{tool}: {'; '.join(problems)}.")


def _sentence(error: Any) -> str:
    """One problem, beginning with the argument's name."""
    name = ".".join(str(part) for part in error.path)
    match error.validator:
        case "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            return f"{' and '.join(missing)} must be given"
        case "additionalProperties":
            known = error.schema.get("properties", {})
            unknown = sorted(set(error.instance) - set(known))
            return f"unknown argument {' and '.join(map(_short, unknown))}; available: {', '.join(known)}"
        case "enum":
            known = ", ".join(map(str, error.validator_value))
            return f"{name} must be one of {known}, not {_short(error.instance)}"
        case "type":
            wanted = error.validator_value
            words = wanted if isinstance(wanted, str) else " or ".join(wanted)
            return f"{name} must be of type {words}, not {_short(error.instance)}"
        case bound if bound in _BOUNDS:
            return f"{name} must be {_BOUNDS[bound]} {error.validator_value}, not {error.instance}"
        case "multipleOf":
            return f"{name} must be a multiple of {error.validator_value}, not {error.instance}"
        case "minLength":
            return f"{name} must not be empty"
        case _:
            return f"{name or 'the arguments'}: {error.message[: SHOWN * 3]}"


def _short(value: object) -> str:
    """Show a wrong value; one that is long says nothing more for being whole."""
    shown = repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
