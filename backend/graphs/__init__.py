"""Graphs: pure functions from arguments to ComfyUI workflows in API format."""

from typing import Any, TypeAlias

Graph: TypeAlias = dict[str, dict[str, Any]]
"""Node id → ``{"class_type", "inputs", "_meta"?}``. A link is ``[node id as text, output number]``."""
