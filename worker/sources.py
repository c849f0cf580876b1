"""The sources of the generation image: ComfyUI and its node packs, as ``comfyui.toml`` pins them.

The image's build runs this file alone, as a program with a folder as its argument: it needs only
the standard library and git. There it clones ComfyUI, and each pack below ``custom_nodes``.
"""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

PINS = Path(__file__).with_name("comfyui.toml")


class Source(NamedTuple):
    """A repository at a commit; ``folder`` is relative to ComfyUI's own."""

    name: str
    folder: str
    repository: str
    commit: str


def read(pins: Path = PINS) -> dict[str, Any]:
    """Read ``comfyui.toml``."""
    return tomllib.loads(pins.read_text(encoding="utf-8"))


def sources(pins: dict[str, Any]) -> list[Source]:
    """List ComfyUI first, then the packs."""
    core = pins.get("comfyui")
    return [
        *([Source("ComfyUI", ".", core["repository"], core["commit"])] if core else []),
        *(
            Source(name, f"custom_nodes/{name}", pack["repository"], pack["commit"])
            for name, pack in pins.get("packs", {}).items()
        ),
    ]


def fetch(source: Source, target: Path, *, files: bool = True) -> None:
    """Fetch one commit into ``target``, without its history.

    Without ``files``, git fetches the content of a file when it is read.
    Raises CalledProcessError; git has then said why on stderr.
    """

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=target, check=True)

    target.mkdir(parents=True, exist_ok=True)
    git("init", "--quiet")
    # A remote, so that a partial clone can fetch the files that it left out.
    git("remote", "add", "origin", source.repository)
    git(
        "fetch",
        "--quiet",
        "--depth",
        "1",
        *([] if files else ["--filter=blob:none"]),
        "origin",
        source.commit,
    )
    if files:
        git("checkout", "--quiet", "--detach", source.commit)
        git("submodule", "--quiet", "update", "--init", "--depth", "1")


def main(target: Path) -> None:
    """Clone all sources, and check that ComfyUI is the version that ``comfyui.toml`` names."""
    pins = read()
    for source in sources(pins):
        print(f"{source.name} {source.commit}", flush=True)  # noqa: T201 - the build's log
        fetch(source, target / source.folder)
    version = f'"{pins["comfyui"]["version"]}"'
    if version not in (target / "comfyui_version.py").read_text(encoding="utf-8"):
        sys.exit(f"comfyui.toml: commit {pins['comfyui']['commit']} is not ComfyUI {version}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
