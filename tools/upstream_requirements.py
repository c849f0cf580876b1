"""Write ``worker/upstream.in``: what ComfyUI and its node packs ask for, read from their own files.

Each block is headed by its source and commit, so a block is read again only when its pin moved.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from worker.sources import Source, fetch, read, sources

UPSTREAM = Path(__file__).resolve().parents[1] / "worker" / "upstream.in"
HEADER = (
    "# Written by `./inv lock` from the requirements.txt of each source in comfyui.toml; do not edit.\n"
    "# A package that a worker does not need is a comment."
)
LEFT_OUT = "# left out: "


def normalized(text: str) -> list[str]:
    """List a requirements.txt's requirements in the standard spelling, sorted, without comments."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return sorted({str(Requirement(line)) for line in lines if line}, key=str.lower)


def blocks(text: str) -> dict[str, list[str]]:
    """Split the file into its blocks: "NAME COMMIT" to the requirements as the source states them."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n\n+", text.strip())[1:]:
        heading, *lines = block.splitlines()
        found[heading.removeprefix("# ")] = [line.removeprefix(LEFT_OUT) for line in lines]
    return found


def rendered(requirements: Mapping[str, list[str]], left_out: Collection[str]) -> str:
    """Write the blocks; what comfyui.toml leaves out is a comment."""

    def line(requirement: str) -> str:
        name = canonicalize_name(Requirement(requirement).name)
        return f"{LEFT_OUT}{requirement}" if name in left_out else requirement

    parts = [f"# {heading}\n" + "\n".join(map(line, lines)) for heading, lines in requirements.items()]
    return "\n\n".join([HEADER, *parts]) + "\n"


def stated(source: Source, version: str, checkout: Path | None) -> str:
    """Read the source's requirements.txt, from ComfyUI's folder ``checkout`` or else with git."""
    if checkout is not None:
        folder = checkout / source.folder
        if source.folder == "." and f'"{version}"' not in (folder / "comfyui_version.py").read_text():
            sys.exit(f"{folder} is not ComfyUI {version}, which worker/comfyui.toml names")
        return (folder / "requirements.txt").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as clone:
        try:
            fetch(source, Path(clone), files=False)
            command = ["git", "-C", clone, "show", f"{source.commit}:requirements.txt"]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout
        except subprocess.CalledProcessError:
            sys.exit(
                f"Cannot fetch the requirements of {source.name}: {source.commit} of {source.repository}. "
                "Check the commit in worker/comfyui.toml, or give a folder with ComfyUI and its packs: "
                "./inv lock --comfyui-dir DIR"
            )


def update(checkout: Path | None) -> None:
    """Bring ``upstream.in`` up to date with ``comfyui.toml``."""
    pins = read()
    known = blocks(UPSTREAM.read_text(encoding="utf-8")) if UPSTREAM.exists() else {}
    found = {}
    for source in sources(pins):
        heading = f"{source.name} {source.commit}"
        found[heading] = (
            known[heading]
            if checkout is None and heading in known
            else normalized(stated(source, pins["comfyui"]["version"], checkout))
        )
    UPSTREAM.write_text(rendered(found, pins["packages"]["left_out"]), encoding="utf-8")
