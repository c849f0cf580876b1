"""Scan 20,000 model files: names and sizes, then with every hash remembered.

Run as ``python -m benchmarks.bench_scan [files]``. Where comfygit-core is
installed (in this environment or under COMFYGIT_PYTHON), its scan of the same
folder is measured beside ours, cold and warm. comfy-vault is not: no package
index has it (2026-11).
"""

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import PYTHON, Measured, best, measure

OURS = """
import sys, time
from pathlib import Path
from ops.hash_cache import hash_cache
from ops.scan import Root, hash_all, scan
start = time.perf_counter()
found = scan([Root(Path(sys.argv[1]))])
with hash_cache(Path(sys.argv[2])) as hashes:
    found = hash_all(found, hashes) if sys.argv[3] == "hash" else found.with_hashes(hashes.known(found.files))
taken = time.perf_counter() - start
assert len(found.files) == int(sys.argv[4]), len(found.files)
assert all(file.sha256 for file in found.files) or sys.argv[3] == "look"
print(f"{taken:.3f}", file=sys.stderr)
"""
COMFYGIT = """
import sys, time
from pathlib import Path
from comfygit_core.analyzers.model_scanner import ModelScanner
from comfygit_core.repositories.model_repository import ModelRepository
start = time.perf_counter()
ModelScanner(ModelRepository(Path(sys.argv[2]))).scan_directory(Path(sys.argv[1]))
print(f"{time.perf_counter() - start:.3f}", file=sys.stderr)
"""


def fill(root: Path, count: int) -> None:
    """Make small files over some categories, as a large collection of LoRAs has them."""
    for number in range(count):
        folder = root / ("loras", "checkpoints", "embeddings", "vae")[number % 4] / f"{number % 97:02}"
        if number < 4 * 97:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"model-{number:05}.safetensors").write_bytes(number.to_bytes(8, "little") * 16)


def run(label: str, command: list[str], runs: int) -> Measured:
    """Measure a program several times and print its best."""
    taken = best([measure(command) for _ in range(runs)])
    print(f"{label:44}{taken.seconds:8.2f} s in all{taken.peak_mib:8.0f} MiB")
    return taken


def main() -> None:
    count = int(sys.argv[1] if len(sys.argv) > 1 else 20_000)
    with tempfile.TemporaryDirectory() as scratch:
        models, cache = Path(scratch) / "models", Path(scratch) / "hashes.sqlite"
        fill(models, count)
        ours = [PYTHON, "-c", OURS, str(models), str(cache)]
        print(f"{count} files")
        run("ours, python's own start", [PYTHON, "-c", OURS.split("start =", maxsplit=1)[0]], 3)
        run("ours, hash every file (cold)", [*ours, "hash", str(count)], 1)
        run("ours, names, sizes and known hashes (warm)", [*ours, "look", str(count)], 5)
        run("ours, hash what changed (warm)", [*ours, "hash", str(count)], 5)
        peer = os.environ.get("COMFYGIT_PYTHON", PYTHON)
        theirs = [peer, "-c", COMFYGIT, str(models), str(Path(scratch) / "comfygit.db")]
        try:
            run("comfygit-core (cold)", theirs, 1)
            run("comfygit-core (warm)", theirs, 2)
        except SystemExit as error:
            print(f"comfygit-core is not measured: {str(error).splitlines()[-1]}")


if __name__ == "__main__":
    main()
