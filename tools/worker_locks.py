"""Resolve what the worker images install; the last step of ``./inv lock``.

Two environments, because ComfyUI's packages and the worker's would argue: the worker's own takes
the versions of ``requirements.lock``, ComfyUI's is resolved as of one day.
"""

import re
import subprocess
import sys
from pathlib import Path

WORKER = Path(__file__).resolve().parents[1] / "worker"
PLATFORM = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28"]
FORM = ["--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
# Two days after ComfyUI v0.29.0 came out: newer packages were never run with it.
COMFYUI_DAY = "2026-08-01"
CUDA = re.compile(r"(torch|nvidia-[\w-]+|triton|cuda-[\w-]+)==")


def resolve(name: str, *options: str) -> None:
    """Resolve ``worker/<name>.in`` into ``worker/<name>.lock``."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *PLATFORM, *FORM, *options]
    subprocess.run([*command, f"{name}.in", "-o", f"{name}.lock"], cwd=WORKER, check=True)


def split_cuda() -> None:
    """Move torch and what it brings of CUDA from ``comfyui.lock`` to a lock of its own.

    They are some gigabytes that change seldom: a layer of their own stays on RunPod's hosts.
    """
    entries = re.split(r"\n(?=\S)", (WORKER / "comfyui.lock").read_text().strip())
    cuda = [entry for entry in entries if CUDA.match(entry)]
    rest = [entry for entry in entries if not CUDA.match(entry)]
    (WORKER / "cuda.lock").write_text("\n".join(cuda) + "\n")
    (WORKER / "comfyui.lock").write_text("\n".join(rest) + "\n")


if __name__ == "__main__":
    resolve("requirements", "--constraint", "../requirements.lock")
    resolve("comfyui", "--upgrade", "--exclude-newer", COMFYUI_DAY)
    split_cuda()
