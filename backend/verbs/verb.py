"""What a verb is: its arguments, its words for people, and the graph that does it. Pure."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from backend.verbs.params import InputLike, Param, table_of

if TYPE_CHECKING:  # a request looks its verb up, so it is above
    from backend.verbs.request import Request

T = TypeVar("T")

Graph: TypeAlias = dict[str, dict[str, Any]]
"""A workflow in ComfyUI's API format: node id → ``{"class_type", "inputs", "_meta"?}``."""
Link: TypeAlias = list[str | int]
"""An output of a node, as an input of another: node id as text, number of the output."""
Lookup = Generator[Any, Any, T]
"""A flow (`backend.flow.Flow`) whose steps are those of the context that it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A graph, ready to queue.

    Attributes:
        seed: the one in it, or None where the graph is the caller's own.
        own: True where the graph is ours and its results have names that no other run has.
        chosen_inputs: inputs of nodes whose value was chosen from what this ComfyUI offers; another one
            may choose another.
    """

    graph: Graph
    seed: int | None = None
    warnings: tuple[str, ...] = ()
    own: bool = True
    chosen_inputs: frozenset[str] = frozenset()


class GraphContext(Protocol):
    """What a graph's builder may ask of the ComfyUI that will run it."""

    def bring(self, value: InputLike) -> Lookup[str]:
        """Put a file among the inputs, unless it is there; return the name that LoadImage takes."""

    def transcript(self, value: InputLike, name: str) -> Lookup[str]:
        """Read what a voice recording says from the text file beside it; "" without one."""

    def audio_duration_s(self, value: InputLike, name: str) -> Lookup[float | None]:
        """Measure an audio input; None if it cannot be read."""

    def options(self, class_type: str, name: str) -> Lookup[list[Any]]:
        """Return the values that an input of a node may have; [] if it has no list of them."""

    def metadata(self, folder: str, filename: str) -> Lookup[Mapping[str, str]]:
        """Return the metadata of a model file; {} if it has none."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb.

    Attributes:
        name: that of its module.
        arguments: a TypedDict, as `backend.verbs.params` describes.
        summary: one sentence, for ``help()`` and the command line.
        tool: the description that a language model reads; a verb without one has no MCP tool.
        suffix: of the file that it makes; "" if that depends on the arguments.
        graph: builds the graph from a checked request.
        parts: verbs that do the same one after the other, for backends that need a job each.
    """

    name: str
    arguments: type
    summary: str
    graph: Callable[["Request", GraphContext], Lookup[Planned]]
    tool: str = ""
    suffix: str = ""
    parts: tuple[str, ...] = ()

    @cached_property
    def params(self) -> Mapping[str, Param]:
        """The arguments: name → what it may be."""
        return table_of(self.arguments)
