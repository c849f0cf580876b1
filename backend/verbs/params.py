"""How a verb declares its arguments: the type of each, and beside it what it means. Pure.

::

    class BlurParams(TypedDict, total=False):
        image: Required[Annotated[InputLike, Param("The picture to blur.")]]
        radius: Annotated[int, Param("In pixels.", default=3, low=1, high=31)]

Type checkers read the types. `table_of` makes of both the table by which calls, command lines, the MCP
server and the worker check arguments before anything is sent. A default of None means that it follows from
something else: the checkpoint's architecture, the audio's length.
"""

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Required,
    TypeAlias,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
)

from backend.verbs.result import GeneratedFile

InputLike = str | os.PathLike[str] | GeneratedFile
"""A file to work on: a path here, a file of an earlier result, an ``https://`` address, or a name that
the ComfyUI already has (``avatars/odin.png``)."""
PathLike = str | os.PathLike[str]


class Lora(TypedDict, total=False):
    """A LoRA and how strongly it acts."""

    name: Required[str]
    strength_model: float
    strength_clip: float


What = Literal["text", "integer", "number", "boolean", "choice", "input", "inputs", "loras", "graph", "path"]

_WHATS: Final[Mapping[Any, What]] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    InputLike: "input",
    Mapping[str, InputLike]: "inputs",
    list[Lora]: "loras",
    Mapping[str, Any] | PathLike: "graph",
    PathLike: "path",
}
"""Type of an argument → how it is checked. A Literal of texts is a choice."""


@dataclass(frozen=True, slots=True)
class Param:
    """One argument.

    Attributes:
        sentence: what it means.
        default: what holds without it; None if that follows from something else.
        low, high: bounds, both allowed.
        step: what an integer must be a multiple of.
        filename: a text that names one file, and no folder.
        aliases: other names that older clients send to a worker.
        what, required, choices: follow from its type.
    """

    sentence: str
    _: KW_ONLY
    default: Any = None
    low: float | None = None
    high: float | None = None
    step: int | None = None
    filename: bool = False
    aliases: tuple[str, ...] = ()
    what: What = "text"
    required: bool = False
    choices: tuple[str, ...] = ()


def table_of(arguments: Any) -> Mapping[str, Param]:
    """Return the arguments that a TypedDict declares: name → what it may be.

    Raises:
        TypeError: an argument has no `Param`, or a type that is not checked.
    """
    required = arguments.__required_keys__
    return {
        name: replace(_read(name, hint), required=name in required)
        for name, hint in get_type_hints(arguments, include_extras=True).items()
    }


def _read(name: str, hint: Any) -> Param:
    if get_origin(hint) is Required:
        (hint,) = get_args(hint)
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    params = [note for note in notes if isinstance(note, Param)]
    if len(params) != 1:
        raise TypeError(f"{name} must be Annotated[type, Param(…)], got {hint}.")
    if get_origin(kind) is Literal:
        return replace(params[0], what="choice", choices=get_args(kind))
    if kind not in _WHATS:
        raise TypeError(f"{name} must have one of the types {', '.join(map(str, _WHATS))}, got {kind}.")
    return replace(params[0], what=_WHATS[kind])


DEFAULT_NEGATIVE: Final = "low quality, blurry"
DEFAULT_CHECKPOINT: Final = "sd_xl_base_1.0.safetensors"

# Arguments that several verbs have.
OutputPath: TypeAlias = Annotated[
    PathLike, Param("Where the result goes; further files get -2, -3 before the suffix.")
]
Loras: TypeAlias = Annotated[list[Lora], Param("LoRAs: a list of {name, strength_model, strength_clip}.")]
NegativePrompt: TypeAlias = Annotated[
    str, Param("What it must not show. Flux ignores it.", default=DEFAULT_NEGATIVE)
]
Checkpoint: TypeAlias = Annotated[str, Param(f"Checkpoint file; by default {DEFAULT_CHECKPOINT}.")]
Width: TypeAlias = Annotated[
    int, Param("Width in pixels; by default the model's own.", low=64, high=8192, step=8)
]
Height: TypeAlias = Annotated[
    int, Param("Height in pixels; by default the model's own.", low=64, high=8192, step=8)
]
Seed: TypeAlias = Annotated[
    int, Param("The same seed gives the same result; -1 is random.", low=-1, high=2**64 - 1)
]
Seed31: TypeAlias = Annotated[
    int, Param("The same seed gives the same result; -1 is random.", low=-1, high=2**31 - 1)
]
"""Of a node that takes seeds of 31 bits."""
