"""What starting the MCP server costs beside the SDK that it stands on.

Measures processes, each from nothing, in turn, so that a busy machine slows
both alike: Python alone, the SDK's own server module, and our server ready to
answer (every tool's schema made). Prints medians and the heaviest of our own
modules as ``-X importtime`` sees them.

    python benchmarks/bench_mcp_import.py [rounds]
"""

import re
import statistics
import subprocess
import sys
import time

CASES = {
    "python": "pass",
    "the SDK": "import mcp.server, mcp.server.stdio",
    "our server": (
        "from pathlib import Path; from backend.settings import Settings; "
        "from mcp_server.server import make_server; from mcp_server.studio import Studio; "
        "import mcp.server.stdio; make_server(Studio(Settings(), registry=Path('x')))"
    ),
}
BUDGET_MS = 50


def milliseconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - start) * 1000


def own_modules() -> list[tuple[float, str]]:
    """Milliseconds of each module of ours, without what it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", CASES["our server"]],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+((?:mcp_server|backend|ops)[\w.]*)", done.stderr)
    return sorted(((int(own) / 1000, name) for own, name in found), reverse=True)


def main(rounds: int) -> None:
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, code in CASES.items():
            taken[name].append(milliseconds(code))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"{name:12} {median:8.1f} ms   (least {min(taken[name]):.1f}, most {max(taken[name]):.1f})")
    added = [ours - theirs for ours, theirs in zip(taken["our server"], taken["the SDK"], strict=True)]
    print(f"added        {statistics.median(added):8.1f} ms   of {BUDGET_MS} allowed")
    for own, name in own_modules()[:8]:
        print(f"  {own:6.1f} ms  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
