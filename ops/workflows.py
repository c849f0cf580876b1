"""What a ComfyUI workflow needs: models by file name, nodes by class, and who provides each model. Pure.

Both forms are read: the API form (``{id: {class_type, inputs}}``), and the form
that the editor saves (``{nodes: [{type, widgets_values, properties}]}``), which
may name models and packs of nodes itself.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from backend.errors import InvalidArgument
from backend.model_folders import ALIASES, category_of
from ops.categories import EXTENSIONS, canonical
from ops.inventory import Inventory
from ops.layout import MODELS
from ops.registry import Registry

# Nodes that read files which no input names: class → models of the registry.
_SILENT: Final[Mapping[str, tuple[str, ...]]] = {
    "SONICTLoader": ("sonic", "whisper-tiny"),
    "F5TTSAudio": ("f5-tts", "vocos-mel-24khz"),
    "F5TTSAudioInputs": ("f5-tts", "vocos-mel-24khz"),
    "F5TTSAudioAdvanced": ("f5-tts", "vocos-mel-24khz"),
}
_PACKS: Final[Mapping[str, str]] = {
    "SONIC": "smthemex/ComfyUI_Sonic",
    "F5TTS": "niknah/ComfyUI-F5-TTS",
    "VHS_": "Kosinkadink/ComfyUI-VideoHelperSuite",
}
CORE: Final = "comfy-core"


@dataclass(frozen=True, slots=True)
class NeededModel:
    """A model that a workflow names.

    Attributes:
        name: as the workflow has it, a path within a category.
        category: where that is looked up, or None where the workflow does not say.
        provided_by: the registry's model that has it, or None.
        there: its path on the volume, or None when it is not there or nobody looked.
        node: class of the node that names it.
    """

    name: str
    category: str | None
    node: str
    provided_by: str | None = None
    there: str | None = None


@dataclass(frozen=True, slots=True)
class NeededNode:
    """A class of nodes: how often it is used, and the pack that has it where that is known."""

    name: str
    count: int
    pack: str | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What a workflow needs, sorted by name."""

    models: tuple[NeededModel, ...] = ()
    nodes: tuple[NeededNode, ...] = ()

    @property
    def unprovided(self) -> tuple[NeededModel, ...]:
        """Models that no registry entry provides."""
        return tuple(model for model in self.models if model.provided_by is None)


def read_workflow(content: str) -> list[tuple[str, Mapping[str, Any], str | None]]:
    """Read a workflow's nodes.

    Returns:
        Class, named values and pack of each node; values of the editor's form have numbers for names.

    Raises:
        InvalidArgument: it is neither form.
    """
    try:
        value = json.loads(content)
    except ValueError as error:
        raise InvalidArgument(f"This is no JSON: {error}.") from error
    if isinstance(value, dict) and isinstance(value.get("prompt"), dict):
        value = value["prompt"]
    if isinstance(value, dict) and isinstance(value.get("nodes"), list):
        return list(_editor_nodes(value))
    if isinstance(value, dict) and value and all(_is_api_node(node) for node in value.values()):
        return [(str(node["class_type"]), node.get("inputs") or {}, None) for node in value.values()]
    raise InvalidArgument(
        "This is no ComfyUI workflow.", hint="Save it in ComfyUI with Export or Export (API)."
    )


def _is_api_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str)


def _editor_nodes(value: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str | None]]:
    """Read nodes as the editor saves them, those of subgraphs too."""
    subgraphs = (value.get("definitions") or {}).get("subgraphs") or ()
    inner = {str(graph.get("id")) for graph in subgraphs if isinstance(graph, dict)}
    for graph in (value, *subgraphs):
        for node in graph.get("nodes") or ():
            if not isinstance(node, dict) or str(node.get("type")) in inner:
                continue
            widgets = node.get("widgets_values")
            values: dict[Any, Any] = widgets if isinstance(widgets, dict) else dict(enumerate(widgets or ()))
            properties = node.get("properties") or {}
            named = {
                f"models.{index}": f"{model.get('directory', '')}/{model.get('name', '')}"
                for index, model in enumerate(properties.get("models") or ())
            }
            yield str(node.get("type")), values | named, properties.get("cnr_id")


def needs(content: str, registry: Registry, remote: Inventory | None = None) -> Needs:
    """Find out what a workflow needs and who provides it.

    Args:
        content: the workflow's JSON.
        registry: what is known.
        remote: what the volume holds, or None when nobody looked.

    Raises:
        InvalidArgument: it is no workflow.
    """
    nodes: dict[str, NeededNode] = {}
    models: dict[tuple[str | None, str], NeededModel] = {}
    for kind, values, pack in read_workflow(content):
        before = nodes.get(kind, NeededNode(kind, 0))
        nodes[kind] = NeededNode(kind, before.count + 1, before.pack or pack or _pack(kind))
        for category, name in _named(kind, values):
            models.setdefault((category, name), _needed(kind, category, name, registry, remote))
        for silent in _SILENT.get(kind, ()):
            models.setdefault((None, silent), _silently(kind, silent, registry))
    known = {name for category, name in models if category is not None}
    kept = [model for (category, name), model in models.items() if category is not None or name not in known]
    return Needs(
        tuple(sorted(kept, key=lambda model: (model.category or "", model.name))),
        tuple(sorted(nodes.values(), key=lambda node: node.name)),
    )


def texts(content: str) -> list[str]:
    """Give every text that a workflow holds, however deep, in lower case.

    Raises:
        InvalidArgument: it is no workflow.
    """
    read_workflow(content)
    return [text.replace("\\", "/").lower() for text in _texts(json.loads(content))]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def may_mean(path: str, said: Iterable[str]) -> bool:
    """Tell whether one of these texts may mean a model file: rather too often than too seldom.

    Nodes that nobody here knows name files in their own ways: in lists, in texts among other words, in
    prompts without their ending (``embedding:easynegative``, ``<lora:mine:0.8>``), as a repository.

    Args:
        path: from the volume root.
        said: from `texts`.
    """
    file = PurePosixPath(path.lower())
    marked = re.compile(rf"[:/]{re.escape(file.stem)}(?!\w)")
    repository = next((p[8:].replace("--", "/", 1) for p in file.parts if p.startswith("models--")), None)
    return any(
        file.name in text
        or marked.search(text) is not None
        or (repository is not None and repository in text)
        for text in said
    )


def _pack(kind: str) -> str | None:
    return next((pack for start, pack in _PACKS.items() if kind.startswith(start)), None)


def _named(kind: str, values: Mapping[Any, Any]) -> Iterator[tuple[str | None, str]]:
    """Find the model files that a node's values name, and their categories."""
    for key, value in values.items():
        if not isinstance(value, str) or PurePosixPath(value).suffix.lower() not in EXTENSIONS:
            continue
        name = value.replace("\\", "/")
        if str(key).startswith("models."):
            folder, _, name = name.partition("/")
            yield ALIASES.get(folder, folder) or None, name
            continue
        yield category_of(kind, str(key)), name


def _needed(
    kind: str, category: str | None, name: str, registry: Registry, remote: Inventory | None
) -> NeededModel:
    """Look a named file up, in its category or, where that is not known, in all."""
    provider = None
    for model, file in registry.entries(required_only=False):
        if file.place == "models" and _is(file.path, category, name):
            provider = model.name
            break
    there = next(
        (
            path
            for path in (remote.files if remote else ())
            if path.startswith(f"{MODELS}/") and _is(path.removeprefix(f"{MODELS}/"), category, name)
        ),
        None,
    )
    return NeededModel(name, category, kind, provider, there)


def _silently(kind: str, name: str, registry: Registry) -> NeededModel:
    """A model that a node reads without naming a file of it."""
    known = any(model.name == name for model in registry.models)
    return NeededModel(name, None, kind, name if known else None)


def _is(path: str, category: str | None, name: str) -> bool:
    """Tell whether a path under the models root is what a node calls by this name."""
    one = canonical(path)
    return one == f"{category}/{name}" if category is not None else one.partition("/")[2] == name
