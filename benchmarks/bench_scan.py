"""Scan 20,000 model files, cold and warm: ours, comfy-vault and comfygit-core.

Run as ``python -m benchmarks.bench_scan [files]``. The peers are measured where
they are installed: ``pip install comfy-model-vault comfygit-core``, here or in the
environment whose Python is named by PEERS_PYTHON. All look at the same folder.
"""

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import PYTHON, best, measure

OURS = """
import sys, time
from pathlib import Path
from ops.local.hash_cache import hash_cache
from ops.local.scan import Root, hash_all, scan
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


def run(label: str, command: list[str], runs: int) -> None:
    """Measure a program several times and print its best."""
    try:
        least = best([measure(command) for _ in range(runs)])
    except (SystemExit, OSError) as error:
        print(f"{label:44} not measured: {str(error).splitlines()[-1]}")
    else:
        print(f"{label:44}{least.seconds:8.2f} s{least.peak_mib:8.0f} MiB{least.cpu_s:8.2f} s of processor")


def main() -> None:
    count = int(sys.argv[1] if len(sys.argv) > 1 else 20_000)
    peer = os.environ.get("PEERS_PYTHON", PYTHON)
    with tempfile.TemporaryDirectory() as scratch:
        models, cache = Path(scratch) / "models", Path(scratch) / "hashes.sqlite"
        fill(models, count)
        ours = [PYTHON, "-c", OURS, str(models), str(cache)]
        comfygit = [peer, "-c", COMFYGIT, str(models), str(Path(scratch) / "comfygit.db")]
        vault = str(Path(peer).with_name("comfy-vault"))
        vault_hash = [vault, "hash", str(models), "--json", "--cache", str(Path(scratch) / "vault.json")]
        print(f"{count} files, whole processes")
        run("python's start and our imports", [PYTHON, "-c", OURS.split("start =", maxsplit=1)[0]], 5)
        run("hash every file (cold), ours", [*ours, "hash", str(count)], 1)
        run("hash every file (cold), comfy-vault", vault_hash, 1)
        run("hash every file (cold), comfygit-core", comfygit, 1)
        run("names, sizes, known hashes (warm), ours", [*ours, "look", str(count)], 5)
        run("names and sizes, comfy-vault", [vault, "scan", str(models), "--json"], 3)
        run("hash what changed (warm), ours", [*ours, "hash", str(count)], 5)
        run("hash what changed (warm), comfy-vault", vault_hash, 2)
        run("hash what changed (warm), comfygit-core", comfygit, 2)


if __name__ == "__main__":
    main()
