"""What a node declares, and how `/object_info` shows it.

A node is a function with a declaration: `@node("Name", inputs={...}, outputs=(...))`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emulator.comfyui.model_files import Library

Options = tuple[str, ...] | Callable[[Library], list[str]]
Combos = Literal["old", "new", "new since 0.29"]


@dataclass(frozen=True, slots=True)
class Input:
    """One input. `kind` is ComfyUI's type name; `COMBO` has options, fixed or read from the library."""

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    options: Options = ()
    required: bool = True
    only_modern: bool = False

    def choices(self, library: Library) -> list[str]:
        """List what may be chosen now."""
        return list(self.options) if isinstance(self.options, tuple) else self.options(library)

    def spec(self, library: Library, *, new_combos: bool) -> list[Any]:
        """Render as `[type, {config}]`, the form that errors and `/object_info` share."""
        if self.kind != "COMBO":
            return [self.kind, dict(self.config)]
        if new_combos:
            return ["COMBO", {"multiselect": False, "options": self.choices(library), **self.config}]
        return [self.choices(library), dict(self.config)]


def words(text: str) -> tuple[str, ...]:
    """Write a long list of options as one text."""
    return tuple(text.split())


def link(kind: str, *, required: bool = True) -> Input:
    """Declare an input that only another node can give."""
    return Input(kind, required=required)


def integer(default: int, low: int, high: int | None = None, step: int | None = None, **more: Any) -> Input:
    """Declare a whole number; `low` and `high` are enforced, `step` is only shown."""
    bounds = {"default": default, "min": low, "max": high, "step": step}
    return Input("INT", {name: value for name, value in bounds.items() if value is not None} | more)


def number(default: float, low: float | None = None, high: float | None = None, step: float = 0.01) -> Input:
    """Declare a fractional number; `low` and `high` are enforced, `step` is only shown."""
    bounds = {"default": default, "min": low, "max": high, "step": step}
    return Input("FLOAT", {name: value for name, value in bounds.items() if value is not None})


def text(default: str | None = None, **more: Any) -> Input:
    """Declare a text."""
    return Input("STRING", ({} if default is None else {"default": default}) | more)


def boolean(default: bool) -> Input:
    """Declare a yes or no."""
    return Input("BOOLEAN", {"default": default})


def choice(*options: str, required: bool = True, **config: Any) -> Input:
    """Declare one of fixed texts."""
    return Input("COMBO", config, options, required)


def model(category: str, *extra: str) -> Input:
    """Declare the name of a model file; `extra` names come before the files."""
    return Input("COMBO", {}, lambda library: [*extra, *library.names(category)])


def upload(kind: Literal["image", "audio"]) -> Input:
    """Declare a file of the input folder."""
    return Input("COMBO", {f"{kind}_upload": True}, lambda library: library.input_names(kind))


@dataclass(frozen=True, slots=True)
class Node:
    """A node class.

    Attributes:
        run: the work: `run(run, **inputs) -> tuple of outputs`, or `Shown` for nodes with files to show.
        is_output: whether a prompt may end in it.
        passes_through: its outputs are only there since 0.29.
        check: extra validation of given inputs, for names that are no options:
            `check(library, inputs) -> (input name, sentence) | None`. The input then skips the option check.
        changes: what besides the inputs makes a cached result stale; `NEVER_CACHED` for always.
    """

    name: str
    run: Callable[..., Any]
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...]
    category: str
    display_name: str
    module: str
    is_output: bool = False
    passes_through: bool = False
    combos: Combos = "old"
    check: Callable[[Library, Mapping[str, Any]], tuple[str, str] | None] | None = None
    changes: Callable[[Library, Mapping[str, Any]], object] | None = None

    def new_combos(self, *, modern: bool) -> bool:
        """Tell which of ComfyUI's two forms of a combo this node's definition has."""
        return self.combos == "new" or (self.combos == "new since 0.29" and modern)

    def inputs_of(self, *, modern: bool) -> dict[str, Input]:
        """Return the inputs that a version has."""
        return {name: one for name, one in self.inputs.items() if modern or not one.only_modern}

    def output_types(self, *, modern: bool) -> tuple[str, ...]:
        """Return the types of its outputs."""
        return () if self.passes_through and not modern else self.outputs

    def info(self, library: Library, *, modern: bool) -> dict[str, Any]:
        """Describe it as `/object_info` does."""
        new = self.new_combos(modern=modern)
        sections: dict[str, dict[str, Any]] = {"required": {}}
        for name, one in self.inputs_of(modern=modern).items():
            part = sections.setdefault("required" if one.required else "optional", {})
            part[name] = one.spec(library, new_combos=new)
        if self.is_output:
            sections["hidden"] = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
        outputs = self.output_types(modern=modern)
        return {
            "input": sections,
            "input_order": {part: list(names) for part, names in sections.items()},
            "is_input_list": False,
            "output": list(outputs),
            "output_is_list": [False] * len(outputs),
            "output_name": list(self.output_names[: len(outputs)]),
            "name": self.name,
            "display_name": self.display_name,
            "description": "",
            "python_module": self.module,
            "category": self.category,
            "output_node": self.is_output,
        }


NEVER_CACHED = object()
NODES: dict[str, Node] = {}
"""Every node class by name, filled as `emulator.comfyui.nodes` is imported."""


def node(
    name: str,
    *,
    inputs: Mapping[str, Input],
    outputs: tuple[str, ...] = (),
    names: tuple[str, ...] | None = None,
    category: str,
    title: str | None = None,
    module: str = "nodes",
    **more: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the decorated function as a node class; `more` are further fields of `Node`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        NODES[name] = Node(
            name, function, inputs, outputs, names or outputs, category, title or name, module, **more
        )
        return function

    return register
