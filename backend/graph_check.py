"""Check a graph before it is queued: its own structure, and against what a ComfyUI knows. Pure.

``check_structure`` needs nothing but the graph and is run before every job, so
that a mistake is not paid for. ``validate`` compares it with the answer of
``/object_info`` and finds what ComfyUI would refuse, all at once.

Source: recordings object_info_full and prompt_errors, v0.29.0 and v0.3.64.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from backend.comfyui_answers import ALLOWED_SHOWN, combo_options
from backend.errors import InvalidArgument

_NUMBERS: Final = {"INT": int, "FLOAT": float}
_UNKNOWN_TYPES: Final = ("*", "COMFY_")
"""Types whose rules only ComfyUI knows: anything, and the dynamic ones of V3 nodes."""
_LINKED: Final = frozenset(
    {
        "AUDIO", "CLIP", "CLIP_VISION", "CLIP_VISION_OUTPUT", "CONDITIONING", "CONTROL_NET", "GUIDER",
        "IMAGE", "LATENT", "MASK", "MODEL", "NOISE", "SAMPLER", "SIGMAS", "STYLE_MODEL", "UPSCALE_MODEL",
        "VAE", "VIDEO",
    }
)  # fmt: skip
"""Types that no value can be written for; packs have types of their own that are typed in."""
_ANY_FILE: Final = frozenset({"LoadImage", "LoadImageMask", "LoadAudio", "LoadVideo", "VHS_LoadAudioUpload"})
"""Nodes that take files in folders too, which their list does not show (facts: comfyui.md 1)."""


Kind = Literal["structure", "node", "missing", "link", "value", "choice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one input of one node.

    Attributes:
        kind: of the mistake: a graph that is none, a node that is not there, an input that is missing, a link
            of the wrong type, a value of the wrong type or out of range, a value that no list has.
        allowed: the values that are taken, where there is a list of them.
        received: the value that is not among them.
    """

    node_id: str
    class_type: str
    input: str
    sentence: str
    kind: Kind = "structure"
    allowed: tuple[Any, ...] = ()
    received: Any = None

    def __str__(self) -> str:
        where = f"node {self.node_id} ({self.class_type})"
        return f"{where}, input {self.input}: {self.sentence}" if self.input else f"{where}: {self.sentence}"


def check_structure(graph: Mapping[str, Any]) -> None:
    """Refuse what can be no workflow in API format, whatever nodes ComfyUI has.

    Raises:
        InvalidArgument: all problems at once.
    """
    if isinstance(graph.get("nodes"), list):
        raise InvalidArgument(
            "This workflow is in the format of ComfyUI's editor, and cannot be queued.",
            hint="Export it in API format: Workflow > Export (API).",
        )
    problems = list(_structure(graph))
    if problems:
        raise InvalidArgument("The workflow has mistakes: " + "; ".join(map(str, problems)) + ".")


def _structure(graph: Mapping[str, Any]) -> Iterator[Problem]:
    for node_id, node in graph.items():
        if not isinstance(node, Mapping) or not isinstance(node.get("class_type"), str):
            yield Problem(node_id=str(node_id), class_type="?", input="", sentence="it has no class_type")
            continue
        inputs = node.get("inputs")
        if not isinstance(inputs, Mapping):
            yield _problem(node_id, node, "", "it has no inputs; give {} where it needs none")
            continue
        for name, value in inputs.items():
            if (link := _link(value)) and link[0] not in graph:
                yield _problem(node_id, node, name, f"it is linked to a node {link[0]!r} that is not there")


def _link(value: Any) -> tuple[str, int] | None:
    """Read a link; a list of other things is a value."""
    if (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str | int)
        and not isinstance(value[0], bool)
        and isinstance(value[1], int)
    ):
        # An integer id is refused by ComfyUI, which looks it up among texts.
        return (value[0], value[1]) if isinstance(value[0], str) else (f"{value[0]} (an integer)", value[1])
    return None


def validate(graph: Mapping[str, Any], object_info: Mapping[str, Any]) -> list[Problem]:
    """Find what ComfyUI would refuse.

    Args:
        graph: in API format.
        object_info: the answer of ``/object_info``, whole or for the nodes in question.

    Returns:
        Problems in the order of the graph; empty when there is none.
    """
    if problems := list(_structure(graph)):
        return problems
    unknown = [node_id for node_id, node in graph.items() if node["class_type"] not in object_info]
    ends = [id_ for id_, node in graph.items() if object_info.get(node["class_type"], {}).get("output_node")]
    # What leads to nothing is not looked at by ComfyUI either; but an unknown node may be the end of it.
    looked_at = graph.keys() if unknown else _leading_to(ends, graph)
    for node_id, node in graph.items():
        if node_id in unknown:
            problems.append(_problem(node_id, node, "", "this ComfyUI has no such node", "node"))
        elif node_id in looked_at:
            problems += _node(node_id, node, object_info[node["class_type"]], graph, object_info)
    if not ends and not problems:
        problems.append(
            Problem(node_id="-", class_type="-", input="", sentence="no node saves or shows anything")
        )
    return problems


def _leading_to(ends: list[str], graph: Mapping[str, Any]) -> set[str]:
    """Give the nodes whose work is needed for some others', with these."""
    found: set[str] = set()
    ahead = list(ends)
    while ahead:
        node_id = ahead.pop()
        if node_id not in found:
            found.add(node_id)
            links = (_link(value) for value in graph[node_id]["inputs"].values())
            ahead += [link[0] for link in links if link]
    return found


def _node(
    node_id: str,
    node: Mapping[str, Any],
    definition: Mapping[str, Any],
    graph: Mapping[str, Any],
    object_info: Mapping[str, Any],
) -> Iterator[Problem]:
    specs = definition.get("input") or {}
    for section in ("required", "optional"):
        for name, spec in (specs.get(section) or {}).items():
            if name not in node["inputs"]:
                if section == "required" and not _is_dynamic(spec):
                    yield _problem(node_id, node, name, "it is missing", "missing")
                continue
            value = node["inputs"][name]
            if link := _link(value):
                sentence = _linked(link, spec, graph, object_info)
                if sentence:
                    yield _problem(node_id, node, name, sentence, "link")
            else:
                # How a list is written that is to be no link.
                plain = value.get("__value__", value) if isinstance(value, Mapping) else value
                yield from _value(node_id, node, name, plain, spec)


def _linked(
    link: tuple[str, int], spec: list[Any], graph: Mapping[str, Any], object_info: Mapping[str, Any]
) -> str | None:
    source = object_info.get(graph[link[0]]["class_type"])
    if source is None:
        return None  # said at that node
    given = source.get("output") or []
    if link[1] >= len(given):
        return f"node {link[0]} has no output {link[1]}"
    wanted = spec[0] if spec and isinstance(spec[0], str) else "COMBO"
    types = (given[link[1]], wanted)
    if any(not isinstance(kind, str) or kind.startswith(_UNKNOWN_TYPES) or kind == "COMBO" for kind in types):
        return None
    if set(str(types[0]).split(",")) & set(wanted.split(",")):
        return None
    return f"it takes {wanted}, and output {link[1]} of node {link[0]} is {types[0]}"


def _value(
    node_id: str, node: Mapping[str, Any], name: str, value: Any, spec: list[Any]
) -> Iterator[Problem]:
    limits = spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    options = combo_options(spec)
    if options is not None:
        chosen = value if limits.get("multiselect") and isinstance(value, list) else [value]
        free = node["class_type"] in _ANY_FILE or str(value).startswith("model://")
        strange = [item for item in chosen if item not in options and not free]
        if strange:
            shown = ", ".join(map(str, options[:ALLOWED_SHOWN])) or "nothing"
            more = " …" if len(options) > ALLOWED_SHOWN else ""
            sentence = f"{strange[0]!r} is not available; there is {shown}{more}"
            yield _problem(
                node_id, node, name, sentence, "choice", allowed=tuple(options), received=strange[0]
            )
        return
    kind = spec[0] if spec else "*"
    if kind in _NUMBERS:
        try:
            number = _NUMBERS[kind](value)
        except (TypeError, ValueError):
            yield _problem(node_id, node, name, f"{value!r} is not a number", "value")
            return
        low, high = limits.get("min"), limits.get("max")
        if (low is not None and number < low) or (high is not None and number > high):
            yield _problem(node_id, node, name, f"{value} is not from {low} to {high}", "value")
    elif kind in _LINKED:
        yield _problem(node_id, node, name, f"it takes a link to {kind}, not {value!r}", "value")


def _is_dynamic(spec: list[Any]) -> bool:
    return bool(spec) and isinstance(spec[0], str) and spec[0].startswith("COMFY_")


def _problem(
    node_id: str,
    node: Mapping[str, Any],
    name: str,
    sentence: str,
    kind: Kind = "structure",
    *,
    allowed: tuple[Any, ...] = (),
    received: Any = None,
) -> Problem:
    return Problem(
        node_id=str(node_id),
        class_type=str(node.get("class_type", "?")),
        input=name,
        sentence=sentence,
        kind=kind,
        allowed=allowed,
        received=received,
    )
