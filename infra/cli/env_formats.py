"""Variables as text that a shell, a dotenv file or a program reads."""

import json
import shlex
from collections.abc import Mapping
from typing import Literal

from backend.errors import InvalidArgument


def render(variables: Mapping[str, str], format: Literal["shell", "dotenv", "json"]) -> str:  # noqa: A002
    """Return variables as text, one a line.

    Raises:
        InvalidArgument: the format is unknown.
    """
    match format:
        case "shell":
            return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        case "dotenv":
            return "".join(f"{name}={value}\n" for name, value in variables.items())
        case "json":
            return json.dumps(dict(variables), indent=2) + "\n"
    raise InvalidArgument(f"Unknown format {format!r}.", hint="Choose shell, dotenv or json.")
