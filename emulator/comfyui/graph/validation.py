"""Judge a graph before it is queued, in ComfyUI's words. Pure but for the library's file names.

Source: answers of real servers v0.29.0 and v0.3.64 to bad graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.comfyui.model_files import Library
from emulator.comfyui.nodes.declarations import Input, Node

Graph = dict[str, dict[str, Any]]
Report = dict[str, Any]

MOST_OPTIONS_SHOWN = 20


class ServerTrouble(Exception):
    """The server's code raised: it answers 500 "Server got itself in trouble"."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a graph.

    Attributes:
        outputs: output nodes that can run.
        error: the `error` of a 400 answer when none can, else None.
        node_errors: by node id; not empty on success too, when only some outputs are good.
    """

    outputs: list[str]
    error: Report | None = None
    node_errors: Report = field(default_factory=dict)


def validate(
    graph: Any,
    nodes: Mapping[str, Node],
    library: Library,
    *,
    modern: bool,
    targets: list[str] | None = None,
) -> Verdict:
    """Decide which of a graph's outputs can run, and coerce its values in place as ComfyUI does.

    Args:
        graph: node id → `{"class_type", "inputs"}`.
        targets: only these output nodes, when given.

    Raises:
        ServerTrouble: what was sent is not an API-format graph.
    """
    if not isinstance(graph, dict):
        if graph == [] and not modern:
            return Verdict([], _error("prompt_no_outputs", "Prompt has no outputs"))
        raise ServerTrouble
    outputs = []
    for node_id, node in graph.items():
        if not isinstance(node, dict):
            raise ServerTrouble
        class_type = node.get("class_type")
        if not isinstance(class_type, str) or class_type not in nodes:
            return Verdict([], _unknown(node_id, node, class_type, modern=modern))
        if nodes[class_type].is_output and (targets is None or node_id in targets):
            outputs.append(node_id)
    if not outputs:
        return Verdict([], _error("prompt_no_outputs", "Prompt has no outputs"))
    return _Judge(graph, nodes, library, modern=modern).judge(outputs)


def _unknown(node_id: str, node: Report, class_type: Any, *, modern: bool) -> Report:
    title = (node.get("_meta") or {}).get("title")
    if modern:
        message = (
            f"Node '{title or class_type}' not found. The custom node may not be installed."
            if class_type is not None
            else f"Node 'ID #{node_id}' has no class_type. "
            "The workflow may be corrupted or a custom node is missing."
        )
        info = {
            "node_id": node_id,
            "class_type": class_type,
            "node_title": title or class_type,
        }
        return _error("missing_node_type", message, f"Node ID '#{node_id}'", info)
    message = (
        f"Cannot execute because node {class_type} does not exist."
        if class_type is not None
        else "Cannot execute because a node is missing the class_type property."
    )
    return _error("invalid_prompt", message, f"Node ID '#{node_id}'")


def _error(kind: str, message: str, details: str = "", extra: Report | None = None) -> Report:
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def _trace(error: Exception) -> Report:
    """Tell of an exception as ComfyUI does; the stand-in has no source lines to show."""
    return {
        "exception_type": type(error).__name__,
        "traceback": ['  File "execution.py", in validate_inputs\n'],
    }


class _Judge:
    """One pass over one graph. Each node is judged once, however many outputs need it."""

    def __init__(self, graph: Graph, nodes: Mapping[str, Node], library: Library, *, modern: bool) -> None:
        self._graph = graph
        self._nodes = nodes
        self._library = library
        self._modern = modern
        self._judged: dict[str, list[Report]] = {}
        self._valid: dict[str, bool] = {}

    def judge(self, outputs: list[str]) -> Verdict:
        good: list[str] = []
        failed: list[tuple[str, list[Report]]] = []
        errors: Report = {}
        for output in outputs:
            if self._node_is_valid(output):
                good.append(output)
                continue
            failed.append((output, self._judged[output]))
            needed = self._upstream(output)
            for node_id, found in self._judged.items():
                if found and node_id in needed:
                    class_type = self._graph[node_id]["class_type"]
                    entry = {"errors": found, "dependent_outputs": [], "class_type": class_type}
                    errors.setdefault(node_id, entry)["dependent_outputs"].append(output)
        if good:
            return Verdict(good, None, errors)
        lines = [f"{error['message']}: {error['details']}" for _, found in failed for error in found]
        error = _error(
            "prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(lines)
        )
        return Verdict([], error, errors)

    def _upstream(self, node_id: str) -> set[str]:
        found: set[str] = set()
        waiting = [node_id]
        while waiting:
            current = waiting.pop()
            if current in found or current not in self._graph:
                continue
            found.add(current)
            inputs = self._graph[current].get("inputs", {})
            waiting += [value[0] for value in inputs.values() if _is_link(value)]
        return found

    def _node_is_valid(self, node_id: str) -> bool:
        """Judge an output node and all that it needs."""
        try:
            return self._judge_node(node_id, ())
        except (KeyError, IndexError, TypeError) as error:
            report = _error(
                "exception_during_validation", "Exception when validating node", str(error), _trace(error)
            )
            self._judged[node_id], self._valid[node_id] = [report], False
            return False

    def _judge_node(self, node_id: str, trail: tuple[str, ...]) -> bool:
        if node_id in self._valid:
            return self._valid[node_id]
        trail = (*trail, node_id)
        node = self._nodes[self._graph[node_id]["class_type"]]
        inputs = self._graph[node_id]["inputs"]
        reports: list[Report] = []
        upstream_valid = True
        for name, declared in node.inputs_of(modern=self._modern).items():
            if name not in inputs:
                if declared.required:
                    reports.append(
                        _error(
                            "required_input_missing", "Required input is missing", name, {"input_name": name}
                        )
                    )
                continue
            spec = declared.spec(self._library, new_combos=node.new_combos(modern=self._modern))
            value = inputs[name]
            if isinstance(value, list):
                problem, valid = self._judge_link(name, declared, spec, value, trail)
                upstream_valid = upstream_valid and valid
            else:
                problem, inputs[name] = self._judge_value(node, name, declared, spec, value)
            if problem is not None:
                reports.append(problem)
        if node.check is not None and (complaint := node.check(self._library, inputs)) is not None:
            name, sentence = complaint
            message = "Custom validation failed for node"
            details = f"{name} - {sentence}"
            reports.append(_error("custom_validation_failed", message, details, {"input_name": name}))
        reports += self._judged.get(node_id, [])
        self._judged[node_id] = reports
        self._valid[node_id] = upstream_valid and not reports
        return self._valid[node_id]

    def _judge_link(
        self, name: str, declared: Input, spec: list[Any], value: list[Any], trail: tuple[str, ...]
    ) -> tuple[Report | None, bool]:
        info: Report = {"input_name": name, "input_config": spec}
        if len(value) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return _error("bad_linked_input", message, name, info | {"received_value": value}), True
        source, slot = value
        if source in trail:
            self._note_cycle(trail[trail.index(source) :])
            return None, False
        types = self._nodes[self._graph[source]["class_type"]].output_types(modern=self._modern)
        received = types[slot]
        if declared.kind not in ("*", "COMBO", received) and received != "*":
            details = f"{name}, received_type({received}) mismatch input_type({declared.kind})"
            message = "Return type mismatch between linked nodes"
            return (
                _error(
                    "return_type_mismatch",
                    message,
                    details,
                    info | {"received_type": received, "linked_node": value},
                ),
                True,
            )
        try:
            return None, self._judge_node(source, trail)
        except (KeyError, IndexError, TypeError) as error:
            info |= {"exception_message": str(error), **_trace(error), "linked_node": value}
            message = "Exception when validating inner node"
            self._judged[source] = [_error("exception_during_inner_validation", message, str(error), info)]
            self._valid[source] = False
            return None, False

    def _note_cycle(self, members: tuple[str, ...]) -> None:
        if not self._modern:
            return
        path = " -> ".join(f"{one} ({self._graph[one]['class_type']})" for one in (*members, members[0]))
        for one in members:
            info = {"node_id": one, "cycle_nodes": list(members)}
            self._judged.setdefault(one, []).append(
                _error("dependency_cycle", "Dependency cycle detected", path, info)
            )

    def _judge_value(
        self, node: Node, name: str, declared: Input, spec: list[Any], value: Any
    ) -> tuple[Report | None, Any]:
        """Check a literal; return the problem if any, and the value as the node will get it."""
        info: Report = {"input_name": name, "input_config": spec, "received_value": value}
        converter = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}.get(declared.kind)
        if converter is not None:
            try:
                value = converter(value)
            except (ValueError, TypeError, OverflowError) as error:
                message = f"Failed to convert an input value to a {declared.kind} value"
                details = f"{name}, {value}, {error}"
                info["exception_message"] = str(error)
                return _error("invalid_input_type", message, details, info), value
            info["received_value"] = value
        low, high = declared.config.get("min"), declared.config.get("max")
        if low is not None and value < low:
            message = f"Value {value} smaller than min of {low}"
            return _error("value_smaller_than_min", message, name, info), value
        if high is not None and value > high:
            message = f"Value {value} bigger than max of {high}"
            return _error("value_bigger_than_max", message, name, info), value
        if declared.kind == "COMBO" and node.check is None:
            choices = declared.choices(self._library)
            if value not in choices:
                shown = str(choices)
                if len(choices) > MOST_OPTIONS_SHOWN:
                    shown, info["input_config"] = f"(list of length {len(choices)})", None
                details = f"{name}: '{value}' not in {shown}"
                return _error("value_not_in_list", "Value not in list", details, info), value
        return None, value


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
