"""Resolve what the worker images install, and prove that it installs; the last step of ``./inv lock``.

Two environments, because ComfyUI's packages and the worker's would conflict: the worker's own takes
the versions of ``requirements.lock``, ComfyUI's is resolved as of one day.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tools import lock_proof, upstream_requirements
from worker.sources import read

WORKER = Path(__file__).resolve().parents[1] / "worker"
PROOF = WORKER / "locks.json"
PLATFORM = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28"]
FORM = ["--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
CUDA = re.compile(r"(torch|nvidia-[\w-]+|triton|cuda-[\w-]+)==")


class Environment(NamedTuple):
    """A Python environment of an image: what is asked for, its locks, and their exceptions."""

    wanted: str
    locks: tuple[str, ...]
    source_builds: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def text(self) -> str:
        """Join its locks."""
        return "".join((WORKER / lock).read_text(encoding="utf-8") for lock in self.locks)

    def requirements(self) -> list[str]:
        """List what is asked for."""
        return list(requirements(WORKER / self.wanted))


def requirements(path: Path) -> Iterator[str]:
    """Read a requirements file, with the files that it includes."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            yield from requirements(path.parent / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            yield line


def environments() -> dict[str, Environment]:
    """Name the environments of the images."""
    packages = read()["packages"]
    return {
        "worker": Environment("requirements.in", ("requirements.lock",)),
        "comfyui": Environment(
            "comfyui.in",
            ("cuda.lock", "comfyui.lock"),
            tuple(packages["source_builds"]),
            tuple(packages["left_out"]),
        ),
    }


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


def prove() -> list[str]:
    """Collect the facts about every lock, write them down, and return what is wrong with them."""
    proof: dict[str, Any] = {}
    for name, environment in environments().items():
        text = environment.text()
        facts = lock_proof.collect(text, environment.requirements())
        proof[name] = {"sha256": lock_proof.digest(text), "packages": facts}
    PROOF.write_text(json.dumps(proof, indent=1) + "\n", encoding="utf-8")
    return check(proof)


def check(proof: dict[str, Any]) -> list[str]:
    """Judge facts about the locks as they are now, without the network."""
    found = []
    for name, environment in environments().items():
        text = environment.text()
        if lock_proof.digest(text) != proof[name]["sha256"]:
            found.append(f"{', '.join(environment.locks)}: changed since ./inv lock proved it")
        found += lock_proof.problems(
            lock_proof.pins(text),
            proof[name]["packages"],
            requirements=environment.requirements(),
            source_builds=environment.source_builds,
            left_out=environment.left_out,
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="./inv lock")
    parser.add_argument("--comfyui-dir", type=Path)
    upstream_requirements.update(parser.parse_args().comfyui_dir)
    resolve("requirements", "--constraint", "../requirements.lock")
    resolve("comfyui", "--upgrade", "--exclude-newer", read()["packages"]["as_of"])
    split_cuda()
    if wrong := prove():
        sys.exit("The locks do not install on the image:\n" + "\n".join(f"- {line}" for line in wrong))
