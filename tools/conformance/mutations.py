"""Compares comfyform's graph check with a server's own ``POST /prompt``, on graphs with one mistake each."""

import copy
import random
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from backend.comfyui.api import ComfyUI
from backend.comfyui.run import run
from backend.comfyui.validate import validate
from backend.errors import ComfyformError, InvalidArgument
from backend.flow import Flow, Send, send
from backend.flow.http_driver import Http
from backend.verbs.graph_structure import check_structure
from tools.conformance.graphs import Graph

KINDS: Final = (
    "choice",
    "drop",
    "large",
    "object",
    "boolean",
    "link",
    "class",
    "text",
    "null",
    "slot",
    "extra",
)
RUN_S: Final = 60.0


@dataclass(slots=True)
class Comparison:
    """What the two said.

    Attributes:
        counts: verdict → number of graphs.
        crashes: what made the check itself fail.
        doubtful: graphs that the check refuses and the server accepts: does it run them, too?
    """

    counts: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    doubtful: list[tuple[str, Graph]] = field(default_factory=list)


def compare(
    comfyui: ComfyUI, http: Http, graphs: Sequence[Graph], definitions: Mapping[str, Any], count: int
) -> Comparison:
    """Check ``count`` changed graphs on both sides; the same ones in every run.

    A server that is busy with another run takes no graph from its queue before it is removed again.
    """
    found = Comparison()
    chance = random.Random(13)
    for _ in range(count):
        graph, change = mutated(chance.choice(graphs), chance)
        try:
            mine = refusals(graph, definitions)
        except Exception as error:  # noqa: BLE001  # a crash is a finding
            found.crashes.append(f"{change}: the check crashed: {error!r}")
            continue
        refused = http.run(server_refuses(comfyui, graph))
        verdict = {
            (True, True): "both refuse",
            (False, False): "both accept",
            (False, True): "left to the server",
            (True, False): "refused early",
        }[bool(mine), refused]
        found.counts[verdict] += 1
        if verdict == "refused early":
            found.doubtful.append((f"{change}: {mine[0]}", graph))
    return found


def false_refusals(comfyui: ComfyUI, http: Http, doubtful: Sequence[tuple[str, Graph]]) -> list[str]:
    """List the refusals of graphs that the server runs to a good end."""
    return [refusal for refusal, graph in doubtful if runs(comfyui, http, graph)]


def refusals(graph: Graph, definitions: Mapping[str, Any]) -> list[str]:
    """List what comfyform's check says against a graph."""
    try:
        check_structure(graph)
    except InvalidArgument as error:
        return [error.message]
    return [str(problem) for problem in validate(graph, definitions)]


def server_refuses(comfyui: ComfyUI, graph: Graph) -> Flow[bool]:
    """Ask the server, and take the graph out of its queue again when it accepts it."""
    prompt_id = str(uuid.uuid4())
    body = {"prompt": graph, "prompt_id": prompt_id, "client_id": "conformance"}
    reply = yield from send(Send("POST", f"{comfyui.url}/prompt", json=body, timeout_s=60.0))
    if not reply.ok:
        return True
    yield from comfyui.interrupt(prompt_id)
    return bool(reply.json().get("node_errors"))


def runs(comfyui: ComfyUI, http: Http, graph: Graph) -> bool:
    """Tell whether the server runs a graph to a good end."""
    try:
        http.run(run(comfyui, graph, deadline_s=RUN_S))
    except ComfyformError:
        return False
    return True


def mutated(graph: Graph, chance: random.Random) -> tuple[Graph, str]:
    """Change one thing in a graph, and say what."""
    changed = copy.deepcopy(graph)
    node_id = chance.choice(sorted(changed))
    inputs = changed[node_id]["inputs"]
    kind = chance.choice(KINDS)
    name = chance.choice(sorted(inputs)) if inputs else ""
    other = chance.choice(sorted(changed))
    values: dict[str, Any] = {
        "choice": "no such choice",
        "large": 10**12,
        "object": {"a": 1},
        "boolean": True,
        "link": [other, 0],
        "text": "12",
        "null": None,
        "slot": [other, 9],
    }
    if kind == "class" or not name:
        changed[node_id]["class_type"] = "NoSuchNode"
    elif kind == "drop":
        del inputs[name]
    elif kind == "extra":
        inputs["unknown_input"] = 5
    else:
        inputs[name] = values[kind]
    return changed, f"{kind} in {graph[node_id]['class_type']}.{name}"
