"""Read the nodes of a ComfyUI workflow in any form that people have it in. Pure.

The API form is ``{id: {class_type, inputs}}``, also inside a request to
ComfyUI or to a worker. The editor saves ``{nodes: [{type, widgets_values,
properties}]}``, with subgraphs as definitions beside, and its values have an
order instead of names.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from backend.errors import InvalidArgument
from ops.models.record import SHA256
from ops.workflows.subgraph_widgets import LINKED, Changes, outside

# Around the API form: what ComfyUI's /prompt takes, and what RunPod's worker-comfyui takes.
_WRAPPERS: Final = ("input", "prompt", "workflow")
# Nodes of the editor alone.
_NOTES: Final = frozenset({"Note", "MarkdownNote"})
_WIRES: Final = frozenset({"PrimitiveNode", "Reroute"})
_SWITCHED_OFF: Final = frozenset({2, 4})
"""A node's ``mode``: never, and bypassed."""
_MOST_NODES: Final = 100_000
"""Far above what people draw: subgraphs of subgraphs could otherwise fill the memory."""

# How loaders call their first values, for graphs saved by editors that did not write the names down.
# Source: object_info of ComfyUI v0.29.0, recorded 2026-08.
_FIRST: Final[Mapping[str, tuple[str, ...]]] = {
    "AudioEncoderLoader": ("audio_encoder_name",),
    "CLIPLoader": ("clip_name",),
    "CLIPVisionLoader": ("clip_name",),
    "CheckpointLoader": ("config_name", "ckpt_name"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "ControlNetLoader": ("control_net_name",),
    "DiffControlNetLoader": ("control_net_name",),
    "DualCLIPLoader": ("clip_name1", "clip_name2"),
    "FrameInterpolationModelLoader": ("model_name",),
    "GLIGENLoader": ("gligen_name",),
    "HypernetworkLoader": ("hypernetwork_name",),
    "ImageOnlyCheckpointLoader": ("ckpt_name",),
    "LatentUpscaleModelLoader": ("model_name",),
    "ConditioningLoader": ("conditioning_name",),
    "LTXAVTextEncoderLoader": ("text_encoder", "ckpt_name"),
    "LoadBackgroundRemovalModel": ("bg_removal_name",),
    "LoadDA3Model": ("model_name",),
    "LoadMoGeModel": ("model_name",),
    "LoraLoader": ("lora_name",),
    "LoraLoaderModelOnly": ("lora_name",),
    "ModelPatchLoader": ("name",),
    "OpticalFlowLoader": ("model_name",),
    "PhotoMakerLoader": ("photomaker_model_name",),
    "QuadrupleCLIPLoader": ("clip_name1", "clip_name2", "clip_name3", "clip_name4"),
    "SAM3DBody_Loader": ("model_file",),
    "SONICTLoader": ("sonic_unet",),
    "StyleModelLoader": ("style_model_name",),
    "TripleCLIPLoader": ("clip_name1", "clip_name2", "clip_name3"),
    "UNETLoader": ("unet_name",),
    "UpscaleModelLoader": ("model_name",),
    "VAELoader": ("vae_name",),
    "unCLIPCheckpointLoader": ("ckpt_name",),
}


class ListedModel(NamedTuple):
    """A model as an author lists it in a workflow.

    Attributes:
        folder: the category, or an alias of it; "" where none is given.
        name: the path within the category.
        address: where it can be had, or "".
        sha256: in lower case, or None.
    """

    folder: str
    name: str
    address: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Node:
    """A node that runs.

    Attributes:
        kind: its class; empty for one of the editor alone, which holds values and is not a node to ComfyUI.
        values: by the input's name, or where that is not known by its number.
        models: what its author says it needs.
        pack: the pack of nodes that has it, where the workflow says.
    """

    kind: str
    values: Mapping[Any, Any]
    models: tuple[ListedModel, ...] = field(default=())
    pack: str | None = None


def parse(content: str) -> Any:
    """Parse a workflow's JSON.

    Raises:
        InvalidArgument: it is not JSON.
    """
    try:
        return json.loads(content.removeprefix("\ufeff"))
    except ValueError as error:
        raise InvalidArgument(f"Invalid workflow: not JSON: {error}.") from error
    except RecursionError:
        raise InvalidArgument("Invalid workflow: JSON nested too deeply.") from None


def read_nodes(value: Any) -> list[Node]:
    """Read the nodes that run; what is switched off in the editor does not.

    Args:
        value: the workflow, from `parse`.

    Raises:
        InvalidArgument: it has neither form.
    """
    for name in _WRAPPERS:
        inner = _mapping(value).get(name)
        if isinstance(inner, dict) and "class_type" not in inner:
            value = inner
    if isinstance(value, dict) and isinstance(value.get("nodes"), list):
        return list(_saved_nodes(value))
    if isinstance(value, dict) and value and all(_is_api_node(node) for node in value.values()):
        return [Node(node["class_type"], _mapping(node.get("inputs"))) for node in value.values()]
    raise InvalidArgument("Not a ComfyUI workflow.", hint="Save it in ComfyUI with Export or Export (API).")


def _is_api_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str)


def _saved_nodes(graph: Mapping[str, Any]) -> Iterator[Node]:
    """Read nodes as the editor saves them; a subgraph counts as often as it is used."""
    listed = _mappings(_mapping(graph.get("definitions")).get("subgraphs"))
    subgraphs = {str(subgraph.get("id")): subgraph for subgraph in listed}
    todo: list[tuple[Mapping[str, Any], frozenset[str], Changes]] = [(graph, frozenset(), {})]
    count = 0
    while todo:
        current, within, changes = todo.pop()
        if listed_here := _listed_models(current.get("models")):
            yield Node("", {}, listed_here)
        for node in _mappings(current.get("nodes")):
            count += 1
            if count > _MOST_NODES:
                raise InvalidArgument("The subgraphs of this workflow expand to too many nodes.")
            kind = node.get("type")
            if node.get("mode") in _SWITCHED_OFF or not isinstance(kind, str) or kind in _NOTES:
                continue
            changed = changes.get(str(node.get("id")), {})
            if kind not in subgraphs:
                yield _changed(_saved_node(kind, node), changed)
                continue
            shown = outside(node, subgraphs[kind], changed)
            yield replace(_saved_node(kind, node), kind="", values=shown.left)
            if kind not in within:
                todo.append((subgraphs[kind], within | {kind}, shown.changes))


def _changed(node: Node, changed: Mapping[str, Any]) -> Node:
    """Return a node the values that the outside of its subgraph sets."""
    if not changed:
        return node
    before = [node.values[name] for name in changed if isinstance(node.values.get(name), str)]
    replaced = [value for value in before if value not in changed.values()]
    values = {**node.values, **changed}
    return replace(
        node,
        values={name: value for name, value in values.items() if value is not LINKED},
        # What its author says that it needs is about the values that it had.
        models=tuple(model for model in node.models if model.name not in replaced),
    )


def _saved_node(kind: str, node: Mapping[str, Any]) -> Node:
    """Read one node as the editor saves it."""
    saved = node.get("widgets_values")
    values: dict[str | int, Any] = dict(saved) if isinstance(saved, dict) else {}
    if isinstance(saved, list):
        # Newer editors write the widgets' names down, among the inputs and in the order of the values.
        widgets = [_mapping(entry.get("widget")).get("name") for entry in _mappings(node.get("inputs"))]
        names = _FIRST.get(kind) or tuple(name for name in widgets if isinstance(name, str))
        values = {names[i] if i < len(names) else i: value for i, value in enumerate(saved)}
    # The newest editors write each value down under its widget's name, too.
    named = node.get("widgets_values_named")
    if isinstance(named, dict) and named:
        values = dict(named)
    properties = _mapping(node.get("properties"))
    models = _listed_models(properties.get("models"))
    pack = properties.get("cnr_id")
    return Node("" if kind in _WIRES else kind, values, models, pack if isinstance(pack, str) else None)


def _listed_models(value: object) -> tuple[ListedModel, ...]:
    """Read a list of models as a workflow, a subgraph or a node has it.

    Source: ComfyUI's workflow schema: name, url, directory, and optionally hash with hash_type.
    """
    return tuple(
        ListedModel(
            str(model.get("directory") or ""), model["name"], str(model.get("url") or ""), _sha256(model)
        )
        for model in _mappings(value)
        if isinstance(model.get("name"), str)
    )


def _sha256(model: Mapping[str, Any]) -> str | None:
    """Return a listed model's sha256; a hash of another type is not used."""
    kind = str(model.get("hash_type") or "sha256").lower().replace("-", "")
    text = str(model.get("hash") or "").lower()
    return text if kind == "sha256" and SHA256.match(text) else None


def _mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the JSON objects of a list; anything else has none."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
