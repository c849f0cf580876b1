"""The start command of an endpoint on a public base image: the bootstrap as one argument of Python."""

import ast
import base64
import functools
import json
import re
import zlib
from pathlib import Path
from typing import Final

BOOTSTRAP: Final = Path(__file__).parents[2] / "worker" / "runtime" / "bootstrap.py"
LONGEST: Final = 8_000
"""Characters that a start command of ours may have. RunPod's own limit is not documented; one argument of a
process may have 128 KiB."""


@functools.cache
def start_command() -> str:
    """Return the value of an endpoint's ``args``: a JSON object with ``cmd``, as RunPod documents it."""
    return json.dumps({"cmd": ["python3", "-c", program()]}, separators=(",", ":"))


def program() -> str:
    """Return the bootstrap as one line without quotes that a shell would read, except ``"``."""
    text = compact(BOOTSTRAP.read_text(encoding="utf-8"))
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return f'import zlib,base64;exec(zlib.decompress(base64.b64decode("{packed}")))'


def compact(source: str) -> str:
    """Return a program without comments, docstrings and empty lines, indented by one space.

    Lines are left out, and none is written again: the result is the same on every version of Python.
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and node.end_lineno is not None
        ):
            for number in range(node.lineno - 1, node.end_lineno):
                lines[number] = ""
    code = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return "\n".join(
        re.sub(r"^( {4})+", lambda found: " " * (len(found[0]) // 4), re.sub(r"  # .*$", "", line))
        for line in code
    )
