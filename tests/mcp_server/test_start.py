"""What starting the MCP server loads: the SDK and our own schemas; the rest comes with the first call."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"boto3", "httpx", "jsonschema", "platformdirs", "pulumi", "rich", "runpod", "yaml"}
LOAD = """
import sys
import mcp.server, mcp.server.stdio
before = set(sys.modules)
from pathlib import Path
from backend.settings import Settings
from mcp_server.server import make_server
from mcp_server.server_state import Studio
make_server(Studio(Settings(), registry=Path("none")))
print(*sorted(name for name in set(sys.modules) - before))
"""


def test_starting_loads_nothing_but_ourselves() -> None:
    """Beside the SDK's own modules there are only ours: start-up stays within its 50 ms.

    benchmarks/bench_mcp_import.py measures the time.
    """
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & HEAVY == set()
    assert loaded - sys.stdlib_module_names == {"backend", "mcp_server", "ops"}
