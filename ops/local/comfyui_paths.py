"""Which folders a ComfyUI reads its models from: by its own word, or by an extra_model_paths.yaml.

Source: ComfyUI v0.29.0, utils/extra_config and folder_paths, recorded 2026-08.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from backend.comfyui.model_folders import ALIASES, places_of
from backend.errors import RegistryError
from ops.files.yaml_positions import NotYaml, read_value
from ops.local.scan import Root
from ops.models.categories import category
from ops.models.volume_layout import MODELS

_PACKS = "custom_nodes"
_NOT_MODELS = frozenset({"base_path", "is_default", _PACKS, "datasets"})


def find(roots: Sequence[Root], path: str) -> Path | None:
    """Return the file that ComfyUI would take for a path under its models folder; None if it does not exist.

    Args:
        roots: its folders, the first first.
        path: ``<category>/<name>``; a category may go by an alias.
    """
    kind, name = category(path), path.partition("/")[2]
    # As it is written first: both names of a category may hold a file of that name.
    spellings = [path, *(place.removeprefix(f"{MODELS}/") for place in places_of(kind, name) if kind)]
    for root in roots:
        if root.category is None:
            files = [root.folder / spelling for spelling in spellings]
        else:
            files = [root.folder / name] if root.category == kind else []
        for file in files:
            if file.is_file():
                return file
    return None


def with_extra(own: Sequence[Root], extra: Path) -> tuple[Root, ...]:
    """Add the folders of an ``extra_model_paths.yaml``, in the order in which ComfyUI looks into them.

    Raises:
        RegistryError: the file has problems; all of them are named.
    """
    try:
        value = read_value(extra.read_text(encoding="utf-8-sig"))
    except NotYaml as error:
        raise RegistryError(str(extra), [f"line {error.line}: {error.sentence}"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(str(extra), [f"it cannot be read: {' '.join(str(error).split())}"]) from error
    first, later = read_extra(value or {}, extra)
    # A folder that two categories name is read once.
    once: dict[str, Root] = {}
    for root in (*first, *own, *later):
        once.setdefault(os.path.realpath(root.folder), root)
    return tuple(once.values())


def read_answer(value: Any) -> tuple[Root, ...]:
    """Read what ComfyUI says of its model folders: the one models folder, and what lies elsewhere.

    Its models folder is taken whole, as it would be if it were set: node packs
    read folders in it that they do not declare. Only what is outside belongs to
    one category. A folder that several categories name, as GGUF loaders do with
    ``unet``, is that of the first.

    Args:
        value: ``[{"name": …, "folders": [absolute, …]}, …]``; other keys are not read.

    Raises:
        ValueError: it is something else, or names no models folder that a path of this machine could be.
    """
    named = list(_folders(value))
    # A category of which all is in custom nodes is what its pack brings along: formats, wildcards.
    kept = {kind for kind, folder in named if _PACKS not in folder.parts}
    named = [(kind, folder) for kind, folder in named if kind in kept]
    # Of --models-directory only what is in it is told; no other folder has as many categories.
    parents = Counter(
        folder.parent
        for kind, folder in named
        if ALIASES.get(folder.name, folder.name) == kind and folder.parent != folder.parent.parent
    )
    if not parents:
        raise ValueError("it lists no models folder")
    models = parents.most_common(1)[0][0]
    first: list[Root] = []
    later: list[Root] = []
    inside = {kind for kind, folder in named if folder.is_relative_to(models)}
    passed: set[str] = set()
    taken = [models]
    for kind, folder in named:
        if folder.is_relative_to(models):
            passed.add(kind)
        # A folder around the models folder would make everything near it a model.
        elif not models.is_relative_to(folder) and not any(map(folder.is_relative_to, taken)):
            taken.append(folder)
            before = kind in inside and kind not in passed
            (first if before else later).append(Root(folder, kind))
    return (*first, Root(models), *later)


def _folders(value: Any) -> Iterator[tuple[str, Path]]:
    """Yield each category's folders, in order, those that are absolute here.

    Raises:
        ValueError: it is not the answer of a ComfyUI.
    """
    if not isinstance(value, list):
        raise ValueError("it is not a list")
    for entry in value:
        match entry:
            case {"name": str(name), "folders": [*folders]} if all(isinstance(f, str) for f in folders):
                if name not in _NOT_MODELS:
                    paths = [Path(os.path.normpath(folder)) for folder in folders]
                    yield from ((ALIASES.get(name, name), path) for path in paths if path.is_absolute())
            case _:
                raise ValueError("it is not a list of categories with their folders")


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
        named = os.path.expanduser(str(section.get("base_path") or "."))  # noqa: PTH111 - Path's raises
        if named.startswith("~"):
            problems.append(f"{name}.base_path: {named.partition('/')[0]} is not a user of this machine")
        base = file.parent / os.path.expandvars(named)
        found = first if section.get("is_default") else later
        for key, folders in section.items():
            if key in _NOT_MODELS:
                continue
            if (meant := re.sub(r"[\s-]+", "_", str(key).strip().lower())) in _NOT_MODELS:
                problems.append(f"{name}.{key} must be written {meant}")
                continue
            if not isinstance(folders, str):
                problems.append(f"{name}.{key} is not a folder, or folders on lines of their own")
                continue
            kind = ALIASES.get(str(key), str(key))
            found += [Root(base / line.strip(), kind) for line in folders.split("\n") if line.strip()]
    if problems:
        raise RegistryError(str(file), problems)
    return first, later
