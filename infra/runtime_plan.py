"""Which code archive and which environments a stack's workers run on, computed from files of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import backend
from backend.errors import ConfigError
from infra import base_images
from ops.runtime.code_archive import CodeArchive, pack
from ops.runtime.environment_key import SOURCES, Kind, environment_key, read_sources

CODE_ROOT: Final = Path(backend.__file__).resolve().parent.parent
"""The folder that holds the packages backend, ops and worker."""
BASES: Final[Mapping[Kind, str]] = {"ops": base_images.OPS, "generation": base_images.GENERATION}
"""Kind of environment → the image that it is built for."""


@dataclass(frozen=True, slots=True)
class RuntimePlan:
    """The software of a stack's workers.

    Attributes:
        code: the archive of backend, ops, worker and the locks.
        keys: kind of environment → its key, known before it is built.
    """

    code: CodeArchive
    keys: Mapping[Kind, str]

    @classmethod
    def of(cls, generation_folder: Path | None = None) -> "RuntimePlan":
        """Read the files.

        Args:
            generation_folder: a folder with the files of the generation environment; by default they are
                the shipped ones.

        Raises:
            ConfigError: a file is missing.
        """
        own = _own_sources(generation_folder) if generation_folder else {}
        keys = {
            kind: environment_key(kind, {**read_sources(kind, CODE_ROOT), **own}, base)
            for kind, base in BASES.items()
        }
        return cls(pack(CODE_ROOT, own), keys)


def _own_sources(folder: Path) -> dict[str, bytes]:
    """Read the files of a generation environment of one's own: path in the archive → content.

    Raises:
        ConfigError: names every file that is missing.
    """
    paths = {name: folder / Path(name).name for name in SOURCES["generation"]}
    # Without packages of its own from PyTorch's family, an environment needs no cuda.lock.
    missing = [path.name for path in paths.values() if path.name != "cuda.lock" and not path.is_file()]
    if missing:
        raise ConfigError(
            f"comfyform:generation_folder: not found in {folder}: {', '.join(missing)}.",
            hint="It needs comfyui.toml and comfyui.lock; cuda.lock is optional.",
        )
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in paths.items()}
