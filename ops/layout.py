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
        ├── uploads/<path>/<owner>.json                   which machine is sending a file over S3
        └── quarantine/<path>.<hash>                      bytes that were not what was asked for

The cache folder is where RunPod itself puts its cached models.
Source: docs.runpod.io, serverless/endpoints/model-caching, read 2026-08-20.

Every name that comes from outside passes `check_path` before it reaches a
disk or a bucket. It must be safe under both path grammars, POSIX and Windows,
because the same registry is used on laptops and on RunPod.
"""

import hashlib
import re
import unicodedata
from typing import Final, Literal

from backend import model_folders
from backend.errors import InvalidArgument

Place = Literal["models", "hf_cache"]

MODELS: Final = model_folders.MODELS
HF_HOME: Final = "huggingface-cache"
HF_HUB: Final = f"{HF_HOME}/hub"
OWN: Final = ".comfyform"
RECORDS: Final = f"{OWN}/records"
PARTIAL: Final = f"{OWN}/partial"
LOCKS: Final = f"{OWN}/locks"
QUARANTINE: Final = f"{OWN}/quarantine"
UPLOADS: Final = f"{OWN}/uploads"
ROOTS: Final = (f"{MODELS}/", f"{HF_HUB}/")
"""The folders that hold model files."""

# A file name may have 255 bytes on every usual file system; a record's name is 5 longer than its file's,
# and an aside copy another 20. An S3 key may have 1024.
MAX_NAME_BYTES: Final = 230
MAX_PATH_BYTES: Final = 900

_WINDOWS_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{name}{digit}" for name in ("com", "lpt") for digit in "0123456789¹²³"}
)
_WINDOWS_FORBIDDEN: Final = frozenset('<>:"|?*\\')
_COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")


def check_path(path: str) -> str:
    """Give the path back when it stays inside whatever folder it is joined to, on every system.

    Args:
        path: relative, POSIX, for example ``"models/checkpoints/x.safetensors"``.

    Raises:
        InvalidArgument: it is absolute, climbs, names a device, hides a separator in a look-alike,
            holds a control character or is too long; the message says which.
    """
    problem = path_problem(path)
    if problem is not None:
        raise InvalidArgument(
            f"{path[:200]!r} is not a usable path: {problem}.",
            hint="Use a relative path with forward slashes, for example checkpoints/x.safetensors.",
        )
    return path


def check_model_path(path: str) -> str:
    """Give the path back when it is a model file's path from the volume root.

    Raises:
        InvalidArgument: as `check_path`, or it lies outside the folders of models.
    """
    check_path(path)
    if not path.startswith(ROOTS):
        raise InvalidArgument(
            f"{path!r} is not a model file's place: it must lie under {' or '.join(ROOTS)}."
        )
    return path


def path_problem(path: str) -> str | None:
    """Say what is wrong with a path, as the end of a sentence, or None."""
    if not path:
        return "it is empty"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if size > MAX_PATH_BYTES:
        return f"it has {size} bytes and {MAX_PATH_BYTES} are allowed"
    if path.startswith(("/", "~")):
        return "it is absolute"
    # A file system or a tool that folds compatibility forms would see other separators and dots than we do.
    folded = unicodedata.normalize("NFKC", path)
    if folded.count("/") != path.count("/") or folded.count("\\") != path.count("\\"):
        return "it holds a look-alike of a separator"
    for name in path.split("/"):
        problem = _name_problem(name) or _name_problem(unicodedata.normalize("NFKC", name))
        if problem is not None:
            return problem
    return None


def _name_problem(name: str) -> str | None:
    """Say what is wrong with one component of a path."""
    if not name:
        return "it has an empty component"
    if name in {".", ".."}:
        return f"it has the component {name!r}"
    if name[-1] in ". ":
        return "a component ends with a dot or a space, which Windows drops"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"a component has more than {MAX_NAME_BYTES} bytes"
    for char in name:
        if char in _WINDOWS_FORBIDDEN:
            return f"{char!r} cannot be in a file name on Windows"
        # Cc: controls, NUL too. Cf: invisible ones that reorder text or hide in it. Zl, Zp: line breaks.
        if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"}:
            return f"it holds the invisible character {char!r}"
    stem = name.partition(".")[0].rstrip()
    if stem.casefold() in _WINDOWS_DEVICES:
        return f"{stem!r} is a device on Windows"
    return None


def models_path(path: str) -> str:
    """Turn a path under the models root into one under the volume root."""
    return check_path(f"{MODELS}/{path}")


def hf_cache_path(repo: str, revision: str, file: str) -> str:
    """Give the place of a file in the Hugging Face cache on the volume, from the volume root.

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
    """For a file in the cache, give the path of its repository's ``refs/main`` and the commit for it."""
    parts = path.removeprefix(f"{HF_HUB}/").split("/")
    if not path.startswith(f"{HF_HUB}/") or len(parts) < 4 or parts[1] != "snapshots":
        return None
    return f"{HF_HUB}/{parts[0]}/refs/main", parts[2]


def is_model_file(path: str) -> bool:
    """Tell whether a path from the volume root is a model file: one of the models or of a cached snapshot."""
    return path.startswith(f"{MODELS}/") or (path.startswith(f"{HF_HUB}/") and "/snapshots/" in path)


def record_path(path: str) -> str:
    """Give the place of a model file's record."""
    return f"{RECORDS}/{path}.json"


def partial_path(path: str) -> str:
    """Give the place of a model file's bytes on their way."""
    return f"{PARTIAL}/{path}"


def lock_path(path: str) -> str:
    """Give the place of a model file's lock: flat, so that locks need no folders of their own."""
    return f"{LOCKS}/{hashlib.sha256(path.encode()).hexdigest()[:32]}.lock"


def quarantine_path(path: str, sha256: str) -> str:
    """Give the place for bytes that were not what was asked for."""
    return f"{QUARANTINE}/{path}.{sha256[:12]}"


def is_quarantined(place: str, path: str) -> bool:
    """Tell whether a place in quarantine is of a model file."""
    return re.fullmatch(rf"{re.escape(f'{QUARANTINE}/{path}')}\.[0-9a-f]{{12}}", place) is not None


def claims_folder(path: str) -> str:
    """Give the folder of the claims on a file: which machines are sending it, each with its upload."""
    return f"{UPLOADS}/{path}"
