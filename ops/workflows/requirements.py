"""What a ComfyUI workflow needs: models by file name, nodes by class, and who provides each model. Pure."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from backend.comfyui.model_folders import ALIASES, category_of
from backend.verbs.transcripts import RECOGNIZER
from ops.models.categories import EXTENSIONS, canonical
from ops.models.inventory import Inventory
from ops.models.volume_layout import MODELS, composed
from ops.registry.load import Registry
from ops.workflows.parse import Node, parse, read_nodes

# Nodes that read files which no input names: class → models of the registry.
_SILENT: Final[Mapping[str, tuple[str, ...]]] = {
    "SONICTLoader": ("sonic", "whisper-tiny"),
    "F5TTSAudio": ("f5-tts", "vocos-mel-24khz"),
    "F5TTSAudioInputs": ("f5-tts", "vocos-mel-24khz"),
    "F5TTSAudioAdvanced": ("f5-tts", "vocos-mel-24khz"),
}
_FILES: Final = EXTENSIONS | {".onnx"}
"""Endings that make a text a model's name wherever it stands."""
_EMBEDDINGS: Final = "embeddings"
_EMBEDDING: Final = re.compile(r"\bembedding:([^\s,:()\[\]<>|]+)")
_LORAS: Final = "loras"
_LORA_TAG: Final = re.compile(r"<lora:([^:<>]+)(?::[^<>]*)?>")
_SWITCHES: Final = ("on", "enabled", "active")
"""Keys by which node packs switch an entry of a value off."""
_NESTED: Final[Mapping[str, str]] = {"lora": _LORAS}
"""Keys within a value, as node packs write them, and the category that they name."""
_PACKS: Final[Mapping[str, str]] = {
    "SONIC": "smthemex/ComfyUI_Sonic",
    "F5TTS": "niknah/ComfyUI-F5-TTS",
    "VHS_": "Kosinkadink/ComfyUI-VideoHelperSuite",
}


@dataclass(frozen=True, slots=True)
class NeededModel:
    """A model that a workflow names.

    Attributes:
        name: as the workflow has it, a path within a category.
        category: where that is looked up, or None where the workflow does not say.
        provided_by: the registry's model that has it, or None.
        there: its (first) path on the volume, or None when it is missing or the volume was not read.
        node: class of the node that names it.
        address: where the workflow says that it can be had, or "".
        sha256: what the workflow says that its bytes are, or None.
    """

    name: str
    category: str | None
    node: str
    provided_by: str | None = None
    there: str | None = None
    address: str = ""
    sha256: str | None = None

    @property
    def how_to_add(self) -> str:
        """The command that adds it to the registry, as far as the workflow says what to add."""
        place = f"{self.category or 'CATEGORY'}/{self.name}"
        source = shlex.quote(self.address) if self.address else "SOURCE"
        return f"inv models.add {source} --path {shlex.quote(place)}"


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


def needs(content: str, registry: Registry, remote: Inventory | None = None) -> Needs:
    """Find out what a workflow needs and who provides it.

    Args:
        content: the workflow's JSON.
        registry: what is known.
        remote: what the volume holds, or None when the volume was not read.

    Raises:
        InvalidArgument: it is not a workflow.
    """
    nodes: dict[str, NeededNode] = {}
    models: dict[tuple[str | None, str], NeededModel] = {}
    for node in read_nodes(parse(content)):
        if node.kind:
            before = nodes.get(node.kind, NeededNode(node.kind, 0))
            pack = before.pack or node.pack or _pack(node.kind)
            nodes[node.kind] = NeededNode(node.kind, before.count + 1, pack)
        for category, name in _named(node):
            models.setdefault((category, name), _needed(node.kind, category, name, registry, remote))
        for silent in _silent(node):
            models.setdefault((None, silent), _silently(node.kind, silent, registry, remote))
        for listed in node.models:
            key = (_category(listed.folder), listed.name.replace("\\", "/"))
            if listed.address and not models[key].address:
                models[key] = replace(models[key], address=listed.address, sha256=listed.sha256)
    known = {name for category, name in models if category is not None}
    kept = [model for (category, name), model in models.items() if category is not None or name not in known]
    return Needs(
        tuple(sorted(kept, key=lambda model: (model.category or "", model.name))),
        tuple(sorted(nodes.values(), key=lambda node: node.name)),
    )


def texts(content: str) -> list[str]:
    """Return every text that a workflow holds, however deep, in lower case.

    Raises:
        InvalidArgument: it is not a workflow.
    """
    value = parse(content)
    read_nodes(value)
    return [text.replace("\\", "/").lower() for text in _texts(value)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def may_mean(path: str, said: Iterable[str]) -> bool:
    """Tell whether one of these texts may mean a model file: rather too often than too seldom.

    Unknown nodes name files in their own ways: in lists, in texts among other words, in
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


def _silent(node: Node) -> tuple[str, ...]:
    """Name the registry's models that a node reads although no input names a file of theirs."""
    found = _SILENT.get(node.kind, ())
    # Its text of the sample; the node recognizes the words itself when that is empty.
    unknown = node.kind == "F5TTSAudioInputs" and not str(node.values.get("sample_text", "?")).strip()
    return (*found, RECOGNIZER) if unknown else found


def _pack(kind: str) -> str | None:
    return next((pack for start, pack in _PACKS.items() if kind.startswith(start)), None)


def _named(node: Node) -> Iterator[tuple[str | None, str]]:
    """Find the model files that a node names, and their categories."""
    for listed in node.models:
        yield _category(listed.folder), listed.name.replace("\\", "/")
    for key, value in _spoken(node.values):
        category = _NESTED.get(key) or category_of(node.kind, key)
        suffix = PurePosixPath(value).suffix.lower()
        # Where the input is known, whatever it names is a model; but `taesd` and `None` are no files.
        if "\n" not in value and (suffix in _FILES or (suffix and category is not None)):
            yield category, value.replace("\\", "/")
        yield from ((_EMBEDDINGS, match[1].rstrip(".")) for match in _EMBEDDING.finditer(value))
        if not node.kind.startswith("CLIPTextEncode"):  # ComfyUI's own leaves tags alone
            yield from ((_LORAS, match[1].replace("\\", "/")) for match in _LORA_TAG.finditer(value))


def _category(folder: str) -> str | None:
    return ALIASES.get(folder, folder) or None


def _spoken(values: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    """Find every text of a node's values, however deep, with the key that is next above it.

    What is switched off within a value does not count: ``{"on": false, "lora": …}``.
    """
    ahead: list[tuple[str, Any]] = [(str(key), value) for key, value in values.items()]
    while ahead:
        key, value = ahead.pop()
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, list):
            ahead += [(key, entry) for entry in value]
        elif isinstance(value, Mapping) and not any(value.get(switch) is False for switch in _SWITCHES):
            ahead += [(str(inner), entry) for inner, entry in value.items()]


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


def _silently(kind: str, name: str, registry: Registry, remote: Inventory | None) -> NeededModel:
    """A model that a node reads without naming a file of it; it is there when all its files are."""
    model = next((model for model in registry.models if model.name == name), None)
    paths = [file.volume_path for file in model.files] if model is not None else []
    there = paths[0] if remote and paths and all(path in remote.files for path in paths) else None
    return NeededModel(name, None, kind, name if model is not None else None, there)


def _is(path: str, category: str | None, name: str) -> bool:
    """Tell whether a path under the models root is what a node calls by this name."""
    one, name = composed(canonical(path)), composed(name)
    if category is None:
        return one.partition("/")[2] == name
    # A prompt names an embedding or a LoRA without its ending.
    return one == f"{category}/{name}" or (
        category in (_EMBEDDINGS, _LORAS) and str(PurePosixPath(one).with_suffix("")) == f"{category}/{name}"
    )
