"""The ``extra_model_paths.yaml`` that shows ComfyUI the volume's models. Pure: gives text.

Source: ComfyUI v0.29 folder_paths (facts: comfyui.md 6). A folder that does not exist is not an error there,
and one whose files arrive later is seen without a restart, so every known category is named from the start.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import yaml

from backend.comfyui.model_folders import ALIASES
from backend.validation.checks import path_problem
from ops.models.categories import CATEGORIES
from ops.models.volume_layout import MODELS, is_reserved

_OF_NODE_PACKS: Final = ("animatediff_models", "ipadapter", "sonic")
FOLDERS: Final[Mapping[str, tuple[str, ...]]] = {
    category: (category, *(alias for alias, meant in ALIASES.items() if meant == category))
    for category in (*CATEGORIES, *_OF_NODE_PACKS)
}
"""Category → its folders under the models root; the second ones are older names of the same."""


def render(volume: str, folders: Iterable[str] = ()) -> tuple[str, list[str]]:
    """Write the file.

    Args:
        volume: absolute path of the volume.
        folders: names of folders that are under its models root now; those that no category knows
            become categories of their own name, because a node pack may ask for them.

    Returns:
        Its text, and a sentence for each folder that ComfyUI must not be told of: whoever can write to
        the volume chooses these names.
    """
    known = {folder for names in FOLDERS.values() for folder in names}
    section: dict[str, str] = {"base_path": volume}
    section |= {
        category: "\n".join(f"{MODELS}/{name}" for name in names) for category, names in FOLDERS.items()
    }
    refused = []
    for name in sorted(set(folders) - known):
        if is_reserved(name):
            refused.append(f"{MODELS}/{name} is hidden from ComfyUI, which would run or obey what is in it.")
        elif problem := path_problem(name):
            refused.append(f"The folder {name[:100]!r} of {MODELS} is hidden from ComfyUI: {problem}.")
        else:
            section[name] = f"{MODELS}/{name}"
    return yaml.safe_dump({"comfyform": section}, allow_unicode=True, sort_keys=False), refused
