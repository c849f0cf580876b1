"""What starting the MCP server adds to importing the SDK that it stands on.

Each round is a process of its own that imports the SDK's server, then makes
ours ready to answer, every tool's schema made, and tells what either took.
Prints the median and the least, and our heaviest modules as ``-X importtime``
sees them.

    python benchmarks/bench_mcp_import.py [rounds]
"""

import json
import re
import statistics
import subprocess
import sys

SDK = "import mcp.server, mcp.server.stdio"
OURS = """
from pathlib import Path
from backend.settings import Settings
from mcp_server.server import make_server
from mcp_server.server_state import Studio
make_server(Studio(Settings(), registry=Path("none")))
"""
ROUND = f"""
import json, time
start = time.perf_counter()
{SDK}
between = time.perf_counter()
{OURS}
end = time.perf_counter()
print(json.dumps({{"the SDK": (between - start) * 1000, "we add": (end - between) * 1000}}))
"""
BUDGET_MS = 50


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)


def own_modules() -> list[tuple[float, str]]:
    """Milliseconds of each module of ours, without what it imports."""
    done = python("-X", "importtime", "-c", SDK + OURS)
    found = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+((?:mcp_server|backend|ops)[\w.]*)", done.stderr)
    return sorted(((int(own) / 1000, name) for own, name in found), reverse=True)


def main(rounds: int) -> None:
    samples = [json.loads(python("-c", ROUND).stdout) for _ in range(rounds)]
    print(f"{'':10} {'median':>10} {'least':>13}")
    for name in ("the SDK", "we add"):
        times = [one[name] for one in samples]
        print(f"{name:10} {statistics.median(times):7.1f} ms {min(times):10.1f} ms")
    print(f"{BUDGET_MS} ms are allowed")
    for own, name in own_modules()[:8]:
        print(f"  {own:6.1f} ms  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
