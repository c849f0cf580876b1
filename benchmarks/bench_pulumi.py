"""What our resources add to the Pulumi engine: python -m benchmarks.bench_pulumi

On the real engine, against the emulator: `pulumi up` without a change, with
five models, beside a program of as many trivial dynamic resources, in turns;
and `pulumi refresh` with fifty models beside one with five.

Prints JSON: median seconds, and the ratios that issue 4 promises (both at most 2).
"""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from infra.engine.pulumi_project import CHECKOUT
from tests.support.emulation import running_emulator
from tests.support.pulumi_project import Project, project

ROUNDS = 7
SOURCE = "hf:openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af:config.json"
BARE = """\
from benchmarks.trivial_provider import Trivial
for number in range({count}):
    Trivial(f"trivial-{{number}}", number)
"""


def models(project: Project, count: int) -> None:
    """Let a project want so many models, small ones."""
    lines = [f"      - path: m/{number}.json\n        source: {SOURCE}\n" for number in range(count)]
    (project.root / "models-registry.yaml").write_text("required:\n  m:\n    files:\n" + "".join(lines))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="bench-pulumi-"))
    (home / "emulator").mkdir()
    try:
        with running_emulator(home / "emulator") as emu, project(home / "ours", emu) as ours:
            models(ours, 5)
            ours.up()
            count = len(ours.resources())
            with project(home / "bare", emu, extra={"PYTHONPATH": str(CHECKOUT)}) as bare:
                (bare.root / "infra" / "__main__.py").write_text(BARE.format(count=count))
                bare.up()
                up: dict[str, list[float]] = {"ours": [], "bare": []}
                for _ in range(ROUNDS):
                    up["ours"].append(seconds(lambda: ours.up("--expect-no-changes")))
                    up["bare"].append(seconds(lambda: bare.up("--expect-no-changes")))
            refresh: dict[int, float] = {}
            for number in (5, 50):
                models(ours, number)
                ours.up()
                times = [
                    seconds(lambda: ours.pulumi("refresh", "--yes", "--skip-preview")) for _ in range(ROUNDS)
                ]
                refresh[number] = statistics.median(times)
            ours.pulumi("destroy", "--yes", "--skip-preview")
    finally:
        shutil.rmtree(home)
    ours_s, bare_s = statistics.median(up["ours"]), statistics.median(up["bare"])
    print(
        json.dumps(
            {
                "resources": count,
                "up_without_change_s": round(ours_s, 2),
                "bare_engine_s": round(bare_s, 2),
                "up_ratio": round(ours_s / bare_s, 2),
                "refresh_5_models_s": round(refresh[5], 2),
                "refresh_50_models_s": round(refresh[50], 2),
                "refresh_ratio": round(refresh[50] / refresh[5], 2),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
