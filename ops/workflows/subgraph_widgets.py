"""Values that a subgraph shows on its outside in ComfyUI's editor, led to the inner inputs. Pure.

Source: 310 uses of subgraphs in the package comfyui-workflow-templates-json 0.1.123, and what the editor
makes of them. A use stores its values in one of three ways: ``proxyWidgets`` without values (the inner values
count), ``proxyWidgets`` with one value a pair, or one value for each input of the definition that leads to a
widget.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = Mapping[str, Any]
Changes = dict[str, dict[str, Any]]
"""Id of an inner node → name of its input → the value that it gets."""
LINKED: Final = object()
"""In the place of a value: the input takes what a link brings."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What one use of a subgraph changes within it.

    Attributes:
        changes: values and links from outside, for inner nodes.
        left: values that lead to no inner input, by their position.
    """

    changes: Changes
    left: Mapping[int, Any]


def outside(use: Json, definition: Json, changed: Mapping[str, Any]) -> Outside:
    """Lead the values of a use of a subgraph to the inner inputs.

    Args:
        use: the node as saved.
        definition: of the subgraph.
        changed: what the graph around it sets on this use: name of its input → value or `LINKED`.
    """
    inputs = [entry for entry in _list(definition.get("inputs")) if isinstance(entry.get("name"), str)]
    targets = {str(entry["name"]): list(_targets(entry, definition)) for entry in inputs}
    saved = use.get("widgets_values")
    values = saved if isinstance(saved, list) else []
    changes: Changes = {}
    left: dict[int, Any] = {}
    places = _places(use, inputs, targets)
    for index, value in enumerate(values):
        found = places[index] if index < len(places) else []
        for node_id, name in found:
            changes.setdefault(node_id, {})[name] = value
        if not found:
            left[index] = value
    links = {
        str(entry.get("name")): LINKED for entry in _list(use.get("inputs")) if entry.get("link") is not None
    }
    # What is outermost counts.
    for name, value in {**links, **changed}.items():
        for node_id, inner in targets.get(name, []):
            changes.setdefault(node_id, {})[inner] = value
    return Outside(changes, left)


def _places(
    use: Json, inputs: Sequence[Json], targets: Mapping[str, list[tuple[str, str]]]
) -> list[list[tuple[str, str]]]:
    """List, for each saved value, the inner inputs that it sets."""
    properties = use.get("properties")
    pairs = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    if not isinstance(pairs, list):
        return [targets[str(entry["name"])] for entry in inputs if targets[str(entry["name"])]]
    found = []
    for pair in pairs:
        node_id, name = (str(pair[0]), str(pair[1])) if isinstance(pair, list) and len(pair) > 1 else ("", "")
        found.append(targets.get(name, []) if node_id == "-1" else [(node_id, name)])
    return found


def _targets(entry: Json, definition: Json) -> Iterator[tuple[str, str]]:
    """Find the inner inputs with a widget that an input of the definition leads to: node id and name."""
    nodes = {str(node.get("id")): node for node in _list(definition.get("nodes"))}
    link_ids = entry.get("linkIds")
    wanted = set(map(str, link_ids)) if isinstance(link_ids, list) else set()
    for link in _links(definition):
        if str(link.get("id")) not in wanted:
            continue
        node_id, slot = str(link.get("target_id")), link.get("target_slot")
        slots = _list(nodes.get(node_id, {}).get("inputs"))
        if isinstance(slot, int) and 0 <= slot < len(slots) and isinstance(slots[slot].get("widget"), dict):
            yield node_id, str(slots[slot]["widget"].get("name") or slots[slot].get("name"))


def _links(definition: Json) -> Iterator[Json]:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    links = definition.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict):
            yield link
        elif isinstance(link, list) and len(link) >= len(names):
            yield dict(zip(names, link, strict=False))


def _list(value: object) -> list[dict[str, Any]]:
    """Keep the JSON objects of a list; anything else has none."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
