"""A large result, from a finished run to a file on disk: ours beside the clients that can do it.

Run as ``python -m benchmarks.bench_result [MB]``, by default 50. One emulator serves a ComfyUI and the
Comfy API v2 before it; the run is answered from ComfyUI's cache, so that what is measured is the client:
a program that starts, asks for the run, and has its result in a file. Peers: ``benchmarks/requirements.txt``.

What could be measured, and what not:

- comfy-sdk 0.5 (Comfy API v2): streams the output to a file, checks no hash, flushes nothing.
- mirror-fit-sdk 0.3 (ComfyUI): pictures only, as base64 text in memory, which the program decodes; it looks
  once a second, and waits two more before it reads the history again.
- comfy-gen 0.2: cannot. RunPod's address is fixed in its source, and it fetches no result but gives its URL.
- runpod SDK 1.12: cannot. It gives a job's output as JSON, and has no call that fetches a file of it; a
  result of this size is in no RunPod answer.

Ours checks what it can (length; the sha256 where the sender names one), hashes on the way, flushes to the
disk and renames.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import PYTHON, Measured, best, measure, table
from tests.support.emulation import running_emulator

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "noise.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "large"}},
}
SAID = f"GRAPH = {json.dumps(GRAPH)}\n"
OURS = """
import sys
from backend import get_backend
with get_backend(sys.argv[1]) as client:
    client.workflow(GRAPH, output_path=sys.argv[2]).raise_for_failure()
"""
COMFY_SDK = """
import sys
from comfy_sdk import Comfy, Workflow
with Comfy() as client:
    client.run(Workflow(GRAPH)).outputs[0].to_file(sys.argv[2])
"""
MIRROR_FIT = """
import base64, os, sys
from mirror_fit.local import LocalClient
result = LocalClient(os.environ["COMFYUI_URL"]).run_sync(GRAPH, [])
with open(sys.argv[2], "wb") as file:
    file.write(base64.b64decode(result["output"]["images"][0]))
"""
NOISE = """
import os, sys
from PIL import Image
side = round((int(sys.argv[1]) / 3) ** 0.5)
Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(sys.argv[2], compress_level=0)
"""
"""A picture that no compression makes smaller. A program of its own: what a parent once held counts as a
child's peak."""
PROGRAMS = (
    ("ours, from a ComfyUI", OURS, "local", "backend"),
    ("mirror-fit-sdk, from a ComfyUI", MIRROR_FIT, "", "mirror_fit"),
    ("ours, from a Comfy API v2", OURS, "cloud", "backend"),
    ("comfy-sdk, from a Comfy API v2", COMFY_SDK, "", "comfy_sdk"),
)


def run(program: str, backend: str, place: Path, env: dict[str, str]) -> Measured:
    place.unlink(missing_ok=True)
    measured = measure([PYTHON, "-c", SAID + program, backend, str(place)], env)
    assert place.stat().st_size > 0
    return measured


def main(megabytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder, running_emulator(Path(folder)) as emu:
        picture = Path(folder) / "comfyui" / "input" / "noise.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([PYTHON, "-c", NOISE, str(megabytes * 1_000_000), picture], check=True)
        place, env = Path(folder) / "result.png", {**emu.env, "COMFYFORM_STATE_DIR": folder}
        run(OURS, "local", place, env)  # makes the file; from now on it comes from the cache
        size = place.stat().st_size
        rows, missing = [], []
        for name, program, backend, module in PROGRAMS:
            if importlib.util.find_spec(module) is None:
                missing.append(name)
                continue
            rows.append((name, best([run(program, backend, place, env) for _ in range(3)])))
        table(f"A result of {size / 1e6:.0f} MB", rows, size)
    for name in missing:
        print(f"not installed: {name} (pip install -r benchmarks/requirements.txt)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
