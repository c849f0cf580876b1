"""Which folders a ComfyUI reads its models from: its models folder, and its extra_model_paths.yaml.

Source: ComfyUI v0.29.0, utils/extra_config and folder_paths, recorded 2026-08.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from backend.errors import RegistryError
from backend.model_folders import ALIASES
from ops.scan import Root

_NOT_MODELS = frozenset({"base_path", "is_default", "custom_nodes", "datasets"})


def roots(models: Path, extra: Path | None = None) -> tuple[Root, ...]:
    """Give the folders in the order in which ComfyUI looks into them.

    Args:
        models: the models folder.
        extra: an ``extra_model_paths.yaml``, or None.

    Raises:
        RegistryError: the file has problems; all of them are named.
    """
    if extra is None:
        return (Root(models),)
    try:
        value = yaml.safe_load(extra.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RegistryError(str(extra), [f"it cannot be read: {' '.join(str(error).split())}"]) from error
    first, later = read_extra(value or {}, extra)
    return (*first, Root(models), *later)


def read_extra(value: Any, file: Path) -> tuple[list[Root], list[Root]]:
    """Read the content of an ``extra_model_paths.yaml``: the folders before the models folder, and after.

    Each section has ``base_path`` (``~`` and variables are expanded; relative to
    the file), ``is_default`` (its folders come first), and categories with one
    folder, or several on lines of their own.
    """
    if not isinstance(value, dict):
        raise RegistryError(str(file), ["it is not a mapping of sections"])
    first: list[Root] = []
    later: list[Root] = []
    problems: list[str] = []
    for name, section in value.items():
        if section is None:
            continue
        if not isinstance(section, dict):
            problems.append(f"section {name!r} is not a mapping")
            continue
        base = file.parent / os.path.expandvars(Path(str(section.get("base_path") or ".")).expanduser())
        found = first if section.get("is_default") else later
        for key, folders in section.items():
            if key in _NOT_MODELS:
                continue
            if not isinstance(folders, str):
                problems.append(f"{name}.{key} is not a folder, or folders on lines of their own")
                continue
            kind = ALIASES.get(str(key), str(key))
            found += [Root(base / line.strip(), kind) for line in folders.split("\n") if line.strip()]
    if problems:
        raise RegistryError(str(file), problems)
    return first, later
