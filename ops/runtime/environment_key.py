"""The name of a Python environment: known before it is built, and another one whenever its sources differ."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from backend.errors import InvalidArgument

Kind = Literal["ops", "generation"]
KINDS: Final = ("ops", "generation")
BUILDER: Final = "1"
"""Version of the builder: raise it where the same sources should be built again."""
SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "ops": ("worker/requirements.lock",),
    "generation": ("worker/comfyui.toml", "worker/comfyui.lock", "worker/cuda.lock"),
}
"""Kind → files of the code archive that decide what its environment holds."""


def environment_key(kind: str, sources: Mapping[str, bytes], base: str) -> str:
    """Return an environment's key, 64 lowercase hex digits.

    Args:
        kind: "ops" or "generation".
        sources: path → content of the files that ``SOURCES`` names for the kind; others are ignored.
        base: the base image as the endpoint names it, best with its digest: it decides Python and platform.

    Raises:
        InvalidArgument: the kind is unknown.
    """
    if kind not in SOURCES:
        raise InvalidArgument(f"Unknown environment {kind!r}.", hint=f"Choose one of {', '.join(KINDS)}.")
    digest = hashlib.sha256()
    for text in (BUILDER.encode(), kind.encode(), base.encode(), *_parts(kind, sources)):
        # Each part with its length: no two lists of parts give the same bytes.
        digest.update(b"%d:" % len(text))
        digest.update(text)
    return digest.hexdigest()


def read_sources(kind: str, root: Path) -> dict[str, bytes]:
    """Read the files that decide an environment from a folder with the code; an absent one is left out."""
    paths = {name: root / name for name in SOURCES.get(kind, ())}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


def _parts(kind: str, sources: Mapping[str, bytes]) -> list[bytes]:
    """Return names and contents in a fixed order; an absent file counts as an empty one."""
    return [part for name in SOURCES[kind] for part in (name.encode(), sources.get(name, b""))]
