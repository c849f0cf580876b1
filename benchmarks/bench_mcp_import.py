"""What starting the MCP server costs beside the SDK that it stands on.

Measures processes, each from nothing, in turn: Python alone, the SDK's own
server module, and our server ready to answer (every tool's schema made).
Prints the least of each, the run that was least disturbed, in processor time
and by the clock, and the heaviest of our own modules as ``-X importtime``
sees them.

    python benchmarks/bench_mcp_import.py [rounds]
"""

import os
import re
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


def milliseconds(code: str) -> tuple[float, float]:
    """Processor time and time by the clock of one process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return (usage.ru_utime + usage.ru_stime) * 1000, (time.perf_counter() - start) * 1000


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
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, code in CASES.items():
            taken[name].append(milliseconds(code))
    print(f"{'':12} {'processor':>13} {'clock':>13}")
    least = {}
    for name, times in taken.items():
        processor, clock = (min(column) for column in zip(*times, strict=True))
        least[name] = processor
        print(f"{name:12} {processor:10.1f} ms {clock:10.1f} ms")
    added = least["our server"] - least["the SDK"]
    print(f"added        {added:10.1f} ms   of {BUDGET_MS} allowed")
    for own, name in own_modules()[:8]:
        print(f"  {own:6.1f} ms  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
