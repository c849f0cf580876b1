"""The graph check against ComfyUI's own verdicts: what it takes is taken, what it refuses is refused.

Source: ``tests/cases/graph_verdicts.json`` has 50 graphs that a ComfyUI 0.29.0 was sent, its verdict on each,
and its definitions of their nodes, cut to what a check reads.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.comfyui.validate import validate
from backend.errors import InvalidArgument
from backend.verbs.graph_structure import check_structure

RECORDED = json.loads((Path(__file__).parents[2] / "cases" / "graph_verdicts.json").read_text())
INFO = RECORDED["definitions"] | {
    "ImageScaleBy": {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "upscale_method": [["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]],
                "scale_by": ["FLOAT", {"min": 0.01, "max": 8.0}],
            }
        },
        "output": ["IMAGE"],
    },
    "ImageCompositeMasked": {
        "input": {
            "required": {
                "destination": ["IMAGE"], "source": ["IMAGE"], "x": ["INT", {"min": 0}],
                "y": ["INT", {"min": 0}], "resize_source": ["BOOLEAN"],
            },
            "optional": {"mask": ["MASK"]},
        },
        "output": ["IMAGE"],
    },
    "LoadLatent": {"input": {"required": {"latent": [[]]}}, "output": ["LATENT"]},
    "LatentToImage": {"input": {"required": {"samples": ["LATENT"]}}, "output": ["IMAGE"]},
    "Blurred": {"input": {"required": {"x": ["IMAGE, MASK"]}}, "output": ["IMAGE"]},
}  # fmt: skip
GRAPH: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 3}},
    "2": {
        "class_type": "ImageScaleBy",
        "inputs": {"image": ["1", 0], "upscale_method": "area", "scale_by": 1.0},
    },
    "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "t"}},
}


def found(graph: Any, info: Any = INFO) -> list[str]:
    """The problems of a graph, from both checks."""
    try:
        check_structure(graph)
    except InvalidArgument as error:
        return [str(error)]
    return [str(problem) for problem in validate(graph, info)]


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["name"])
def test_the_verdict_is_comfyuis(case):
    """On each recorded graph."""
    problems = found(case["graph"])

    assert case["taken"] is (not problems), problems


def node(number: str, class_type: str, **inputs: Any) -> Callable[[dict[str, Any]], None]:
    return lambda graph: graph.update({number: {"class_type": class_type, "inputs": inputs}})


def inputs(number: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda graph: graph[number]["inputs"].update(values)


MASKED = {"destination": ["1", 0], "source": ["1", 0], "x": 0, "y": 0, "resize_source": False, "mask": None}


@pytest.mark.parametrize(
    ("used", "change"),
    [
        (True, lambda graph: None),
        (True, node("2", "ImageCompositeMasked", **MASKED)),
        (True, node("20", "ImageScaleBy", image=["99", 0], upscale_method="area", scale_by=1.0)),
        (True, node("2", "Blurred", x=["1", 0])),
        (True, inputs("9", unknown=5)),
        (True, inputs("1", width="64", height=48.0, color=True)),
        (True, inputs("9", filename_prefix=5)),
        (True, inputs("9", filename_prefix={"__value__": ["a", "b", "c"]})),
        (False, inputs("1", width=math.inf)),
        (False, inputs("1", width=None)),
        (False, inputs("1", width=[])),
        (False, inputs("2", scale_by=10**400)),
        (False, inputs("2", scale_by=0.0)),
        (False, inputs("2", upscale_method="none")),
        (False, inputs("2", upscale_method=["1", 0])),
        (False, inputs("9", filename_prefix=["a", "b", "c"])),
        (False, inputs("9", images=["2", -1])),
        (False, inputs("9", images=["2", 1])),
        (False, inputs("9", images=["2", "0"])),
        (False, inputs("9", images=[2, 0])),
        (False, inputs("9", images=["99", 0])),
        (False, inputs("2", image=["2", 0])),
        (False, node("2", "Unheard", image=["1", 0])),
    ],
)
def test_doubtful_graphs_have_comfyuis_verdict(used, change):
    """Null on an optional link, dead branches, values of other types; lists, slots and cycles."""
    graph = copy.deepcopy(GRAPH)
    change(graph)

    assert used is (not found(graph)), found(graph)


def test_a_node_that_looks_for_its_file_itself_takes_any_name():
    """It takes files in folders, which its list does not show."""
    graph = copy.deepcopy(GRAPH)
    node("3", "LoadLatent", latent="sub/a.latent")(graph)
    node("2", "LatentToImage", samples=["3", 0])(graph)

    assert found(graph) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["1", "2", "area", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["__value__", "a"]), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["1", "2", "9"]), st.sampled_from(["width", "image", "upscale_method", "images"]), VALUES
)
def test_no_value_of_an_input_raises(number, name, value):
    """Each is taken or is a problem with a sentence."""
    graph = copy.deepcopy(GRAPH)
    graph[number]["inputs"][name] = value

    assert all(isinstance(problem, str) for problem in found(graph))


@pytest.mark.slow
@given(VALUES, VALUES)
def test_no_definition_raises(spec, output):
    """A server that answers something else is another's fault; nothing is refused untyped."""
    info = {
        **INFO,
        "ImageScaleBy": {"input": {"required": {"image": spec}, "optional": spec}, "output": output},
        "EmptyImage": spec,
    }

    assert all(isinstance(problem, str) for problem in found(GRAPH, info))
