"""Graphs: pure functions from arguments to ComfyUI workflows in API format."""

from typing import Any, TypeAlias

Graph: TypeAlias = dict[str, dict[str, Any]]
"""Node id → ``{"class_type", "inputs", "_meta"?}``."""
Link: TypeAlias = list[str | int]
"""An output of a node, as an input of another: node id as text, number of the output."""
