"""Check a graph against what a ComfyUI knows, before it is queued. Pure.

``validate`` compares it with the answer of ``/object_info`` and finds what
ComfyUI would refuse, all at once. What needs no ComfyUI is in
`backend.verbs.graph_structure`.

Source: recordings object_info_full and prompt_errors, v0.29.0 and v0.3.64.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from backend.comfyui.refusals import combo_options
from backend.comfyui.responses import ALLOWED_SHOWN
from backend.validation.json_reader import as_list, as_number, as_object
from backend.validation.printable import quoted, shortened, visible
from backend.verbs.graph_structure import (
    Problem,
    as_link,
    find_cycle,
    link_problem,
    malformed_nodes,
    nodes_needed_for,
    problem_at,
)

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
_ANY_FILE: Final = frozenset(
    {
        "LoadAudio", "LoadImage", "LoadImageMask", "LoadImageOutput", "LoadLatent", "LoadVideo",
        "VHS_LoadAudioUpload", "VHS_LoadImages", "VHS_LoadVideo", "VHS_LoadVideoFFmpeg",
    }
)  # fmt: skip
"""Nodes that look for their file themselves, in folders too, which their list does not show."""
_UPLOADS: Final = (
    "image_upload", "audio_upload", "video_upload", "animated_image_upload", "file_upload", "remote",
)  # fmt: skip
"""Marks of inputs whose choices change while ComfyUI runs."""


def validate(graph: Mapping[str, Any], object_info: Mapping[str, Any]) -> list[Problem]:
    """Find what ComfyUI would refuse.

    Args:
        graph: in API format.
        object_info: the answer of ``/object_info``, whole or for the nodes in question.

    Returns:
        Problems in the order of the graph; empty if there are no problems.
    """
    if problems := list(malformed_nodes(graph)):
        return problems
    known = {name: value for name, value in object_info.items() if isinstance(value, Mapping)}
    unknown = [node_id for node_id, node in graph.items() if node["class_type"] not in known]
    ends = [id_ for id_, node in graph.items() if known.get(node["class_type"], {}).get("output_node")]
    # What leads to nothing is not looked at by ComfyUI either; but an unknown node may be the end of it.
    looked_at = set(graph) if unknown else nodes_needed_for(ends, graph)
    for node_id, node in graph.items():
        if node_id in unknown:
            problems.append(problem_at(node_id, node, "", "this ComfyUI has no such node", "node"))
        elif node_id in looked_at:
            problems += _node(node_id, node, known[node["class_type"]], graph, known)
    if not problems and ends:
        problems += find_cycle(graph, looked_at)
    if not ends and not problems:
        problems.append(
            Problem(node_id="-", class_type="-", input="", sentence="no node saves or shows anything")
        )
    return problems


def _node(
    node_id: str,
    node: Mapping[str, Any],
    definition: Mapping[str, Any],
    graph: Mapping[str, Any],
    object_info: Mapping[str, Any],
) -> Iterator[Problem]:
    specs = as_object(definition.get("input"))
    for section in ("required", "optional"):
        for name, entry in as_object(specs.get(section)).items():
            spec = as_list(list(entry) if isinstance(entry, tuple) else entry)
            if name not in node["inputs"]:
                if section == "required" and not _is_dynamic(spec):
                    yield problem_at(node_id, node, name, "it is missing", "missing")
                continue
            value = node["inputs"][name]
            if isinstance(value, list | tuple):
                problem = link_problem(value, graph) or _linked(as_link(value), spec, graph, object_info)
                if problem:
                    yield problem_at(node_id, node, name, problem, "link")
            else:
                # How a list is written that is to be no link.
                plain = value.get("__value__", value) if isinstance(value, Mapping) else value
                yield from _value(node_id, node, name, plain, spec)


def _linked(
    link: tuple[str, int] | None,
    spec: Sequence[Any],
    graph: Mapping[str, Any],
    object_info: Mapping[str, Any],
) -> str | None:
    if link is None:
        return None
    source = object_info.get(graph[link[0]]["class_type"])
    if source is None:
        return None  # said at that node
    given = as_list(source.get("output"))
    if link[1] >= len(given):
        return f"node {link[0]} has no output {link[1]}"
    wanted = spec[0] if spec else "*"
    received = given[link[1]]
    if _fits(received, wanted):
        return None
    name = "one of a list" if isinstance(wanted, list) or wanted == "COMBO" else wanted
    kind = received if isinstance(received, str) else "one of a list"
    return f"it takes {name}, and output {link[1]} of node {link[0]} is {kind}"


def _fits(received: Any, wanted: Any) -> bool:
    """Whether an output may go into an input.

    Source: comfy_execution/validation.py, ``validate_node_input``: equal, any of them ``*``, or both texts
        that share a type between commas. A list of choices takes only an equal list.
    """
    if received == wanted:
        return True
    kinds = [kind for kind in (received, wanted) if isinstance(kind, str)]
    if any(kind.startswith(_UNKNOWN_TYPES) for kind in kinds):
        return True
    if len(kinds) < 2:
        # A list into a list of other choices, or into one of the newer form: only ComfyUI knows.
        return not kinds or "COMBO" in kinds
    types = [{part.strip() for part in kind.split(",")} for kind in kinds]
    return bool(types[0] & types[1]) or any("*" in each for each in types)


def _value(
    node_id: str, node: Mapping[str, Any], name: str, value: Any, spec: Sequence[Any]
) -> Iterator[Problem]:
    limits = as_object(spec[1]) if len(spec) > 1 else {}
    options = combo_options(spec)
    if options is not None:
        chosen = value if limits.get("multiselect") and isinstance(value, list) else [value]
        free = _checks_itself(node["class_type"], limits)
        strange = [
            item for item in chosen if item not in options and not free and not _is_model_address(item)
        ]
        if strange:
            shown = ", ".join(map(_listed, options[:ALLOWED_SHOWN]))
            more = " …" if len(options) > ALLOWED_SHOWN else ""
            allowed = f"choose one of {shown}{more}" if options else "the list of options is empty"
            sentence = f"{quoted(strange[0])} is not available; {allowed}"
            yield problem_at(
                node_id, node, name, sentence, "choice", allowed=tuple(options), received=strange[0]
            )
        return
    kind = spec[0] if spec and isinstance(spec[0], str) else "*"
    if kind in _NUMBERS:
        try:
            number = _NUMBERS[kind](value)
        except (TypeError, ValueError, OverflowError):
            yield problem_at(node_id, node, name, f"{quoted(value)} is not a number", "value")
            return
        low, high = (as_number(limits.get(bound)) for bound in ("min", "max"))
        if (low is not None and number < low) or (high is not None and number > high):
            bounds = f"from {limits.get('min')} to {limits.get('max')}"
            yield problem_at(node_id, node, name, f"{quoted(value)} is not {bounds}", "value")
    elif kind in _LINKED and value is not None:
        yield problem_at(node_id, node, name, f"it takes a link to {kind}, not {quoted(value)}", "value")


def _checks_itself(class_type: str, limits: Mapping[str, Any]) -> bool:
    """Whether a node looks for its file itself: it takes more files than its list shows."""
    uploads = (
        "image_upload",
        "audio_upload",
        "video_upload",
        "animated_image_upload",
        "file_upload",
        "remote",
    )
    return class_type in _ANY_FILE or any(limits.get(name) for name in uploads)


def _is_model_address(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("model://")


def _listed(value: Any) -> str:
    """A choice as it is listed: a text as it is, shortened."""
    return visible(shortened(value, 200)) if isinstance(value, str) else quoted(value)


def _is_dynamic(spec: Sequence[Any]) -> bool:
    return bool(spec) and isinstance(spec[0], str) and spec[0].startswith("COMFY_")
