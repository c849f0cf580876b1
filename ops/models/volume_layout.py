"""Where things lie on a volume, and which names may be used there. Pure: touches no disk.

::

    <volume root>
    ├── models/checkpoints/x.safetensors                  what ComfyUI loads; registry paths start here
    ├── huggingface-cache/hub/models--ORG--NAME/          what node packs read through huggingface_hub
    │   ├── refs/main                                     the commit, as text
    │   └── snapshots/<commit>/<file>                     a real file, not a link: S3 has no links
    ├── inputs/ outputs/                                  of jobs
    └── .comfyform/
        ├── records/<path>.json                           written last: a file with a record was complete
        ├── partial/<path>                                bytes on their way, with a journal beside them
        ├── locks/<hash>.lock                             one writer a file
        ├── quarantine/<path>.<hash>                      bytes that were not what was asked for
        └── replaced/<path>.<time>                        files of other hands that a wanted file replaced

The cache folder is where RunPod itself puts its cached models.
Source: docs.runpod.io, serverless/endpoints/model-caching, read 2026-08-20.

Every name from outside passes one of two checks of `backend.validation.checks` before it
reaches a disk or a bucket. A name that this tool creates passes `check_path`,
because the same registry is used on laptops and on RunPod. A name that exists
already passes `check_contained`, and may otherwise be whatever its author chose.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final, Literal

from backend.comfyui import model_folders
from backend.errors import InvalidArgument
from backend.validation.checks import check_contained, check_path
from ops.models.categories import CATEGORIES, canonical, category

Place = Literal["models", "hf_cache"]

MODELS: Final = model_folders.MODELS
HF_HOME: Final = model_folders.HF_HOME
HF_HUB: Final = model_folders.HF_HUB
OWN: Final = ".comfyform"
RECORDS: Final = f"{OWN}/records"
PARTIAL: Final = f"{OWN}/partial"
LOCKS: Final = f"{OWN}/locks"
QUARANTINE: Final = f"{OWN}/quarantine"
REPLACED: Final = f"{OWN}/replaced"
ROOTS: Final = (f"{MODELS}/", f"{HF_HUB}/")
"""The folders that hold model files."""

_COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")
# Programs and libraries: what an interpreter, a shell or the system's loader runs.
_CODE: Final = frozenset({
    ".py", ".pyc", ".pyd", ".pyo", ".pyw", ".pyx", ".pyz", ".so", ".dll", ".dylib", ".exe", ".com", ".msi",
    ".sh", ".bash", ".zsh", ".fish", ".bat", ".cmd", ".ps1", ".js", ".mjs", ".cjs", ".jar", ".class", ".php",
    ".pl", ".rb", ".lua", ".elf", ".run", ".appimage",
})  # fmt: skip
_SHARED_OBJECT: Final = re.compile(r"\.so(\.\d+)+\Z")


def check_model_path(path: str) -> str:
    """Return the path back when it is a model file's path from the volume root.

    Raises:
        InvalidArgument: as `check_path`, or it lies outside the folders of models.
    """
    check_path(path)
    if not path.startswith(ROOTS):
        raise InvalidArgument(
            f"{path!r} is not a model file's place: it must lie under {' or '.join(ROOTS)}."
        )
    return path


def check_wanted_path(path: str) -> str:
    """Return the path back when a file may be put there: it is a model file's place, and not code.

    Raises:
        InvalidArgument: as `check_model_path`, or ComfyUI would run the file or read it as configuration.
    """
    check_model_path(path)
    problem = code_problem(path)
    if problem is not None:
        raise InvalidArgument(
            f"{path!r} is not a model file's place: {problem}.",
            hint="Code reaches a worker with its image or its node packs, never as a model.",
        )
    return path


def check_held_path(path: str) -> str:
    """Return the path of a file that a volume may hold, whatever its author called it.

    Raises:
        InvalidArgument: it leaves its folder, or lies outside the folders that are listed.
    """
    check_contained(path)
    if not path.startswith((*ROOTS, f"{REPLACED}/")):
        raise InvalidArgument(
            f"{path!r} is not a model file's place: it must lie under {' or '.join(ROOTS)}."
        )
    return path


def code_problem(path: str) -> str | None:
    """Say why a path from the volume root names code or configuration, as the end of a sentence, or None."""
    folder, slash, rest = path.removeprefix(f"{MODELS}/").partition("/")
    if path.startswith(f"{MODELS}/") and slash and is_reserved(folder):
        return f"{folder!r} is not a folder of models to ComfyUI, which runs or obeys what it finds there"
    suffix = PurePosixPath(rest or folder).suffix.casefold()
    if suffix in _CODE or _SHARED_OBJECT.search(path.casefold()):
        return f"{suffix!r} files are code, and no model loader reads them"
    return None


def is_reserved(folder: str) -> bool:
    """Tell whether the name of a folder of models means something else in ComfyUI's extra_model_paths.yaml.

    Everything below ``custom_nodes`` is imported when ComfyUI starts; the other two words set where the
    file's paths begin and which of them ComfyUI prefers. Source: ComfyUI v0.29.0, utils/extra_config.py
    (facts: comfyui.md 6).
    """
    return folder.casefold() in {"custom_nodes", "base_path", "is_default"}


def models_path(path: str) -> str:
    """Turn a path under the models root into one under the volume root."""
    return check_path(f"{MODELS}/{path}")


def hf_cache_path(repo: str, revision: str, file: str) -> str:
    """Return the place of a file in the Hugging Face cache on the volume, from the volume root.

    Args:
        repo: ``ORG/NAME``.
        revision: the commit, 40 hex digits.
        file: path inside the repository.
    """
    if not _COMMIT.match(revision):
        raise InvalidArgument(
            f"{revision!r} is not a commit of {repo}: a file in the cache needs all its 40 hex digits.",
            hint="Pin it in the source (hf:ORG/NAME@COMMIT:FILE) or run inv models.lock.",
        )
    return check_path(f"{HF_HUB}/{repo_folder(repo)}/snapshots/{revision}/{file}")


def repo_folder(repo: str) -> str:
    """Name a repository's folder in a Hugging Face cache: ``models--ORG--NAME``."""
    return f"models--{repo.replace('/', '--')}"


def cache_ref(path: str) -> tuple[str, str] | None:
    """For a file in the cache, return the path of its repository's ``refs/main`` and the commit for it."""
    parts = path.removeprefix(f"{HF_HUB}/").split("/")
    if not path.startswith(f"{HF_HUB}/") or len(parts) < 4 or parts[1] != "snapshots":
        return None
    return f"{HF_HUB}/{parts[0]}/refs/main", parts[2]


def listed_paths(paths: Collection[str]) -> list[str]:
    """Keep the paths that an inventory lists where links and files look the same.

    Of the cached blobs those are listed whose repository has no snapshot: no link can refer to them.
    """
    used = {path.partition("/snapshots/")[0] for path in paths if path.startswith(f"{HF_HUB}/")}
    return [
        path
        for path in paths
        if is_model_file(path)
        or path.startswith(f"{REPLACED}/")
        or ((repository := blob_repository(path)) is not None and repository not in used)
    ]


def composed(path: str) -> str:
    """Return a path with its letters composed (NFC): macOS and people write ``é`` as one letter or as two."""
    return unicodedata.normalize("NFC", path)


def canonical_path(path: str) -> str:
    """Return a path's one name, over all aliases of its folder and both forms of its letters."""
    under = path.removeprefix(f"{MODELS}/")
    return composed(path if under == path else f"{MODELS}/{canonical(under)}")


def spellings(path: str) -> list[str]:
    """Return the paths that mean the same model file to ComfyUI, the given one first.

    A folder may go by an alias (``clip``, ``unet``), and letters may be composed (NFC) or decomposed (NFD).
    """
    under = path.removeprefix(f"{MODELS}/")
    same = [path]
    if under != path and "/" in under:
        same += model_folders.places_of(category(under), under.partition("/")[2])
    every = [form for one in same for form in (one, composed(one), unicodedata.normalize("NFD", one))]
    return list(dict.fromkeys(every))


def volume_path(name: str) -> str:
    """Return a model file's path from the volume root, also where it is written as in a registry.

    Registries write ``loras/x.safetensors`` for ``models/loras/x.safetensors``. Only folders that ComfyUI
    itself reads are known here; another folder may be any one of the volume, such as ``outputs``.
    """
    return f"{MODELS}/{name}" if category(name) in CATEGORIES else name


def is_model_file(path: str) -> bool:
    """Tell whether a path from the volume root is a model file: one of the models or of a cached snapshot."""
    return path.startswith(f"{MODELS}/") or (path.startswith(f"{HF_HUB}/") and "/snapshots/" in path)


def blob_repository(path: str) -> str | None:
    """Return the folder of the cached repository that a blob belongs to; None for any other path."""
    parts = path.split("/")
    if not path.startswith(f"{HF_HUB}/") or len(parts) != 5 or parts[3] != "blobs":
        return None
    return f"{HF_HUB}/{parts[2]}"


def replaced_path(path: str, stamp: str) -> str:
    """Return the place for a file of other hands that a wanted file replaced at a time."""
    return f"{REPLACED}/{path}.{stamp}"


def record_path(path: str) -> str:
    """Return the place of a model file's record."""
    return f"{RECORDS}/{path}.json"


def partial_path(path: str) -> str:
    """Return the place of a model file's bytes on their way."""
    return f"{PARTIAL}/{path}"


def lock_path(path: str) -> str:
    """Return the place of a model file's lock, which all its spellings share.

    Locks lie in one folder, so that they need no folders of their own.
    """
    return f"{LOCKS}/{hashlib.sha256(canonical_path(path).encode()).hexdigest()[:32]}.lock"


def quarantine_path(path: str, sha256: str) -> str:
    """Return the place for bytes that were not what was asked for."""
    return f"{QUARANTINE}/{path}.{sha256[:12]}"


def is_quarantined(place: str, path: str) -> bool:
    """Tell whether a place in quarantine is of a model file."""
    return re.fullmatch(rf"{re.escape(f'{QUARANTINE}/{path}')}\.[0-9a-f]{{12}}", place) is not None
