"""The official workflow templates: all are read, with every model's name and category."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import comfyui_workflow_templates_json
import pytest

from ops.registry.load import Registry, parse_registry
from ops.workflows.parse import read_nodes
from ops.workflows.requirements import needs
from ops.workflows.subgraph_widgets import LINKED, outside

FOLDER = Path(comfyui_workflow_templates_json.__file__).parent / "templates"
EMPTY, _ = parse_registry("required: {}\n", Path("models-registry.yaml"), {})


@cache
def templates() -> dict[str, Any]:
    """Every workflow of the package by its file name."""
    files = {path.name: json.loads(path.read_text("utf-8")) for path in FOLDER.rglob("*.json")}
    return {name: value for name, value in files.items() if isinstance(value, dict) and "nodes" in value}


def without_metadata(workflow: Any) -> Any:
    """A copy that does not say which models it needs."""
    bare = copy.deepcopy(workflow)
    for graph in [bare, *(bare.get("definitions") or {}).get("subgraphs", [])]:
        for node in graph["nodes"]:
            (node.get("properties") or {}).pop("models", None)
    return bare


def told(workflow: Any) -> Iterator[tuple[str, str]]:
    """Category and name of the models that the running nodes say they need, and name in a value."""
    for node in read_nodes(workflow):
        values = [value.replace("\\", "/").rpartition("/")[2] for value in texts(node.values)]
        yield from ((listed.folder, listed.name) for listed in node.models if listed.name in values)


def texts(values: Any) -> list[str]:
    return [value for value in values.values() if isinstance(value, str)]


def registry() -> Registry:
    return EMPTY


@pytest.mark.slow
def test_every_template_is_read_with_names_and_categories() -> None:
    """Without the metadata, which other people's workflows lack, the nodes alone tell both."""
    wrong, count = [], 0
    for name, workflow in templates().items():
        models = needs(json.dumps(without_metadata(workflow)), registry()).models
        found = {model.name.rpartition("/")[2]: model.category for model in models}
        for category, model in told(workflow):
            count += 1
            if found.get(model) != category:
                wrong.append((name, model, category, found.get(model, "not found")))

    assert wrong == []
    assert len(templates()) > 600
    assert count > 900


DEFINITION = {
    "id": "sub",
    "inputs": [
        {"name": "image", "linkIds": [1]},
        {"name": "file", "linkIds": [2, 3]},
        {"name": "steps", "linkIds": [4]},
    ],
    "links": [
        {"id": 1, "target_id": 5, "target_slot": 0},
        {"id": 2, "target_id": 6, "target_slot": 0},
        [3, -10, 1, 7, 0, "COMBO"],
        {"id": 4, "target_id": 5, "target_slot": 1},
    ],
    "nodes": [
        {"id": 5, "type": "A", "inputs": [{"name": "image"}, {"name": "s", "widget": {"name": "steps"}}]},
        {"id": 6, "type": "CheckpointLoaderSimple", "inputs": [{"widget": {"name": "ckpt_name"}}]},
        {"id": 7, "type": "LoraLoader", "inputs": [{"widget": {"name": "lora_name"}}]},
    ],
}


@pytest.mark.parametrize(
    ("use", "changed", "changes", "left"),
    [
        ({}, {}, {}, {}),
        (
            {"widgets_values": ["a.safetensors", 3, "more"]},
            {},
            {
                "6": {"ckpt_name": "a.safetensors"},
                "7": {"lora_name": "a.safetensors"},
                "5": {"steps": 3},
            },
            {2: "more"},
        ),
        (
            {
                "properties": {"proxyWidgets": [["-1", "steps"], ["6", "ckpt_name"], 7]},
                "widgets_values": [4, "b.safetensors", "x"],
            },
            {},
            {"5": {"steps": 4}, "6": {"ckpt_name": "b.safetensors"}, "": {"": "x"}},
            {},
        ),
        ({"properties": {"proxyWidgets": [["-1", "steps"]]}}, {}, {}, {}),
        (
            {"widgets_values": ["a", 3], "inputs": [{"name": "steps", "link": 9}]},
            {"file": "outer"},
            {"6": {"ckpt_name": "outer"}, "7": {"lora_name": "outer"}, "5": {"steps": LINKED}},
            {},
        ),
        ({"widgets_values": {"a": 1}, "inputs": 3, "properties": 1}, {}, {}, {}),
    ],
)
def test_values_on_the_outside_of_a_subgraph_reach_the_inner_inputs(
    use: Any, changed: Any, changes: Any, left: Any
) -> None:
    """By the inputs of the definition or by pairs; what is outermost counts, and a link counts more."""
    found = outside(use, DEFINITION, changed)

    assert (found.changes, found.left) == (changes, left)


def test_an_inner_default_that_is_replaced_outside_is_not_needed() -> None:
    """Neither its value nor what its author's metadata says of it; twice nested, too."""
    inner = copy.deepcopy(DEFINITION)
    inner["nodes"][1] |= {  # type: ignore[operator,index]  # a node
        "widgets_values": ["default.safetensors"],
        "properties": {"models": [{"name": "default.safetensors", "directory": "checkpoints"}]},
    }
    outer = {
        "id": "outer",
        "inputs": [{"name": "model", "linkIds": [1]}],
        "links": [{"id": 1, "target_id": 2, "target_slot": 0}],
        "nodes": [{"id": 2, "type": "sub", "inputs": [{"name": "file", "widget": {"name": "file"}}]}],
    }
    workflow = {
        "nodes": [{"id": 1, "type": "outer", "widgets_values": ["mine.safetensors"]}],
        "definitions": {"subgraphs": [inner, outer]},
    }

    found = needs(json.dumps(workflow), registry()).models

    assert {(model.category, model.name) for model in found} == {
        ("checkpoints", "mine.safetensors"),
        ("loras", "mine.safetensors"),
    }
