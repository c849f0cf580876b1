"""``workflow``: any graph in ComfyUI's API format, with the files that it names."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Required, TypedDict

from backend.verbs.params import InputLike, OutputPath, Param, PathLike
from backend.verbs.request import Request
from backend.verbs.verb import Graph, GraphContext, Lookup, Planned, Verb


class WorkflowParams(TypedDict, total=False):
    """Arguments of ``workflow``."""

    graph: Required[Annotated[Mapping[str, Any] | PathLike, Param("A workflow in API format.")]]
    inputs: Annotated[Mapping[str, InputLike], Param("Files that the graph names: name in the graph → file.")]
    output_path: OutputPath


def build(request: Request, context: GraphContext) -> Lookup[Planned]:
    """Return the caller's own graph, with the names that ComfyUI gave its files."""
    names: dict[str, str] = {}
    for name, value in (request["inputs"] or {}).items():
        names[name] = yield from context.bring(value)
    return Planned(graph=renamed(request["graph"], names), own=False)


def renamed(graph: Mapping[str, Any], names: Mapping[str, str]) -> Graph:
    """Return a graph with the files it names under the names that ComfyUI gave them."""

    def value_of(value: Any) -> Any:
        return names.get(value, value) if isinstance(value, str) else value

    result: Graph = {}
    for node_id, node in graph.items():
        inputs = {name: value_of(value) for name, value in (node.get("inputs") or {}).items()}
        result[str(node_id)] = {**node, "inputs": inputs}
    return result


VERB: Final = Verb(
    name="workflow",
    arguments=WorkflowParams,
    summary="Run a workflow of your own, in API format.",
    graph=build,
)
