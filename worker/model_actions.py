"""The model actions: the same store of models as everywhere, on the worker's own volume."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from backend.contract import WantedFile
from backend.errors import InvalidArgument, NotSupported
from ops.stores.model_store import ModelStore, OnProgress

OpenStore = Callable[[Path], ModelStore]


def run(action: str, params: Mapping[str, Any], store: ModelStore, on_progress: OnProgress) -> dict[str, Any]:
    """Do a model action and return its part of the answer.

    Args:
        action: inventory, provision, verify or remove.
        params: the job's fields.
        store: the volume.
        on_progress: told now and then.

    Raises:
        InvalidArgument: a field is missing or of the wrong form.
        ComfyformError: the store could not do it.
    """
    match action:
        case "inventory":
            found = store.inventory(hash=_flag(params, "hash"), on_progress=on_progress)
            return found.to_json()
        case "provision":
            return {"models": store.provision(_wanted(params), on_progress=on_progress)}
        case "verify":
            deep = _flag(params, "deep")
            return {"models": store.verify(_wanted(params), deep=deep, on_progress=on_progress)}
        case "remove":
            removal = store.remove(_paths(params))
            return {"removed": list(removal.removed), "missing": list(removal.missing)}
    raise NotSupported(f"{action} is not a model action.")


def volume(root: Path) -> Path:
    """Return the volume's folder.

    Raises:
        InvalidArgument: no volume is mounted there.
    """
    if not root.is_dir():
        raise InvalidArgument(
            f"This worker has no network volume at {root}.",
            hint="Attach the volume to the endpoint; workers that run already do not get it.",
        )
    return root


def _flag(params: Mapping[str, Any], name: str) -> bool:
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name!r} must be true or false, not {value!r}.")
    return value


def _wanted(params: Mapping[str, Any]) -> list[WantedFile]:
    """Read the wanted files; all problems are named at once."""
    entries = params.get("models")
    if not isinstance(entries, list) or not entries:
        raise InvalidArgument('\'models\' must be a list of wanted files: {"path", "source", "sha256"}.')
    problems: list[str] = []
    for index, entry in enumerate(entries):
        problems += [f"models[{index}]{problem}" for problem in _entry_problems(entry)]
    if problems:
        raise InvalidArgument("; ".join(problems) + ".")
    return [cast("WantedFile", dict(entry)) for entry in entries]


def _entry_problems(entry: object) -> list[str]:
    """Say what is wrong with one wanted file."""
    if not isinstance(entry, Mapping):
        return [" is not an object"]
    problems = [f".{name} is missing" for name in ("path", "source") if not isinstance(entry.get(name), str)]
    size, sha256 = entry.get("size_bytes"), entry.get("sha256")
    if not isinstance(entry.get("lies_at", ""), str):
        problems.append(".lies_at is not a path")
    if not isinstance(entry.get("allow_pickle", False), bool):
        problems.append(f".allow_pickle is {entry['allow_pickle']!r}, not true or false")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        problems.append(f".size_bytes is {size!r}, not a number of bytes")
    if sha256 is not None and not (isinstance(sha256, str) and _is_sha256(sha256)):
        problems.append(f".sha256 is {sha256!r}, expected 64 lowercase hex digits")
    return problems


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _paths(params: Mapping[str, Any]) -> list[str]:
    entries = params.get("paths")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
        raise InvalidArgument("'paths' must be a list of model files' paths.")
    return list(entries)
