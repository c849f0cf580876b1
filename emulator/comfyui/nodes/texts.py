"""Nodes that hold and show texts."""

from __future__ import annotations

from emulator.comfyui.graph.run import Run
from emulator.comfyui.graph.values import Shown
from emulator.comfyui.nodes.declarations import Input, node, text


@node(
    "PrimitiveString",
    inputs={"value": text(multiline=False)},
    outputs=("STRING",),
    category="utilities/primitive",
    title="String",
    module="comfy_extras.nodes_primitive",
)
def primitive_string(run: Run, value: str) -> tuple[str]:
    """Hold a text."""
    return (value,)


@node(
    "PreviewAny",
    inputs={"source": Input("*")},
    outputs=("STRING",),
    category="utilities",
    title="Preview as Text",
    module="comfy_extras.nodes_preview_any",
    is_output=True,
    passes_through=True,
)
def preview_any(run: Run, source: object) -> Shown:
    """Show anything as a text; history lists plain strings."""
    return Shown((str(source),), {"text": [str(source)]})
