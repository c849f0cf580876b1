"""A graph's own structure: nodes, links and cycles, whatever nodes a ComfyUI has. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from backend.errors import InvalidArgument
from backend.validation.printable import quoted

_NODES_SHOWN: Final = 12
_SAVERS: Final = ("Save", "Preview", "VHS_VideoCombine")
"""How the classes of nodes begin that are outputs in every ComfyUI."""


Kind = Literal["structure", "node", "missing", "link", "value", "choice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one input of one node.

    Attributes:
        kind: of the mistake: a graph of another format, a missing node, a missing input, a link of
            the wrong type, a value of the wrong type or out of range, a value that no list has.
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
    problems = list(malformed_nodes(graph))
    if not problems:
        # A node that leads to no output is not looked at by ComfyUI. Without definitions only the nodes
        # that certainly are outputs can be told.
        ends = [node_id for node_id, node in graph.items() if node["class_type"].startswith(_SAVERS)]
        needed = nodes_needed_for(ends, graph)
        problems = list(_lists(graph, needed)) or list(find_cycle(graph, needed))
    if problems:
        raise InvalidArgument("The workflow has mistakes: " + "; ".join(map(str, problems)) + ".")


def malformed_nodes(graph: Mapping[str, Any]) -> Iterator[Problem]:
    """The entries that are not nodes: without a class, or without inputs."""
    for node_id, node in graph.items():
        if not isinstance(node, Mapping) or not isinstance(node.get("class_type"), str):
            yield Problem(node_id=str(node_id), class_type="?", input="", sentence="it has no class_type")
        elif not isinstance(node.get("inputs"), Mapping):
            yield problem_at(node_id, node, "", "it has no inputs; give {} where it needs none")


def _lists(graph: Mapping[str, Any], node_ids: Iterable[str]) -> Iterator[Problem]:
    """What is wrong with the lists of some nodes: ComfyUI takes each list for a link."""
    for node_id in node_ids:
        node = graph[node_id]
        for name, value in node["inputs"].items():
            if isinstance(value, list | tuple) and (sentence := link_problem(value, graph)):
                yield problem_at(node_id, node, name, sentence)


def _sources(node: Mapping[str, Any], graph: Mapping[str, Any]) -> list[str]:
    """The nodes that a node is linked to and that are there."""
    lists = [value for value in node["inputs"].values() if isinstance(value, list | tuple)]
    return [value[0] for value in lists if link_problem(value, graph) is None]


def find_cycle(graph: Mapping[str, Any], node_ids: Collection[str]) -> Iterator[Problem]:
    """A cycle among some nodes whose lists are links; ComfyUI ends in a recursion that has no end."""
    ahead = {node_id: _sources(graph[node_id], graph) for node_id in node_ids}
    while free := [
        node_id for node_id, sources in ahead.items() if not any(map(ahead.__contains__, sources))
    ]:
        for node_id in free:
            del ahead[node_id]
    if ahead:
        node_id = next(iter(ahead))
        named = ", ".join(list(ahead)[:_NODES_SHOWN])
        yield problem_at(
            node_id, graph[node_id], "", f"it waits for its own result: a cycle with nodes {named}"
        )


def link_problem(value: Sequence[Any], graph: Mapping[str, Any]) -> str | None:
    """What is wrong with a list as a link to another node; None if nothing is."""
    if len(value) != 2:
        return f"a list here is a link, [node id, output], and not {quoted(value)}"
    node_id, output = value
    if not isinstance(node_id, str) or node_id not in graph:
        kind = "" if isinstance(node_id, str) else f" ({type(node_id).__name__}; an id is a text)"
        return f"it is linked to a node {quoted(node_id)}{kind} that is not there"
    if isinstance(output, bool) or not isinstance(output, int) or output < 0:
        return f"it is linked to output {quoted(output)}, and outputs are numbered from 0"
    return None


def as_link(value: Any) -> tuple[str, int] | None:
    """A list as a link; only for a value that `link_problem` has nothing against."""
    return (value[0], value[1]) if isinstance(value, list | tuple) else None


def nodes_needed_for(ends: list[str], graph: Mapping[str, Any]) -> set[str]:
    """The nodes whose work is needed for some others', with these."""
    found: set[str] = set()
    ahead = list(ends)
    while ahead:
        node_id = ahead.pop()
        if node_id not in found:
            found.add(node_id)
            ahead += _sources(graph[node_id], graph)
    return found


def problem_at(
    node_id: str,
    node: Mapping[str, Any],
    name: str,
    sentence: str,
    kind: Kind = "structure",
    *,
    allowed: tuple[Any, ...] = (),
    received: Any = None,
) -> Problem:
    """A problem at a node."""
    return Problem(
        node_id=str(node_id),
        class_type=str(node.get("class_type", "?")),
        input=name,
        sentence=sentence,
        kind=kind,
        allowed=allowed,
        received=received,
    )
