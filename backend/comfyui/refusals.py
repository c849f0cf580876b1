"""Why ComfyUI refuses a graph, read from its answer to ``POST /prompt`` into one error. Pure.

Source: recordings prompt_errors of v0.29.0 and v0.3.64.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from backend.comfyui.responses import ALLOWED_SHOWN, class_type_of
from backend.errors import JobFailed
from backend.jobs.status import MAX_WORKER_ERROR
from backend.validation.json_reader import as_list, as_object, as_text, shape_of
from backend.validation.printable import quoted, shortened, visible


def without_choices(body: Any) -> list[str]:
    """List the classes of nodes of which a refusal says that a value is not in a list, without the list.

    Source: ComfyUI v0.29.0, execution.py: a list of more than 20 choices is left out of ``input_config``.
    """
    found = [
        kind
        for _, kind, problem in _problems(body, {})
        if problem.get("type") == "value_not_in_list"
        and not as_object(problem.get("extra_info")).get("input_config")
    ]
    return list(dict.fromkeys(found))


def refusal(body: Any, graph: Mapping[str, Any], definitions: Mapping[str, Any] | None = None) -> JobFailed:
    """The error of a graph that ``POST /prompt`` refused, or of the part that it left out on 200.

    Args:
        body: the answer, parsed: ``{"error", "node_errors"}``.
        graph: what was sent.
        definitions: of the nodes in question, where they are known: they list what the refusal leaves out.
    """
    problems = list(_problems(body, graph))
    error = body.get("error") if isinstance(body, Mapping) else body
    known = as_object(definitions)
    sentences = [
        f"node {node_id} ({kind}): {_problem(problem, as_object(known.get(kind)))}"
        for node_id, kind, problem in problems
    ]
    if not sentences and isinstance(error, Mapping):
        sentences = [_whole_error(error)]
    if not sentences:
        sentences = [as_text(error) or "no reason given"]
    missing = list(dict.fromkeys(_missing_models(problems)))
    text = "; ".join(visible(shortened(sentence)).rstrip(". ") for sentence in sentences)
    return JobFailed(
        f"ComfyUI refuses the workflow: {text}.",
        hint=_hint(missing, error),
        worker_error=shortened(json.dumps(body), MAX_WORKER_ERROR),
        output={"missing_models": missing},
    )


def _hint(missing: list[str], error: Any) -> str | None:
    if missing:
        names = ", ".join(missing)
        return f"Put {names} where this ComfyUI looks for models; `inv models.compare` says what is missing."
    kind = error.get("type") if isinstance(error, Mapping) else ""
    if kind == "missing_node_type" or "does not exist" in str(error):
        return "Install the node pack, or look into ComfyUI's log for IMPORT FAILED."
    return None


def _whole_error(error: Mapping[str, Any]) -> str:
    message = (as_text(error.get("message")) or as_text(error.get("type")) or "no reason given").rstrip(".")
    details = as_text(error.get("details"))
    return f"{message} ({details})" if details and details not in message else message


def _problems(body: Any, graph: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Node id, class and problem, one by one; ComfyUI's own ``details`` name output nodes only."""
    for node_id, value in as_object(as_object(body).get("node_errors")).items():
        node = as_object(value)
        kind = as_text(node.get("class_type")) or class_type_of(graph, node_id)
        # A node whose problems have another form is named all the same.
        for problem in as_list(node.get("errors")) or [{"message": as_text(value) or shape_of(value)}]:
            yield node_id, kind, problem if isinstance(problem, Mapping) else {"message": as_text(problem)}


def _problem(problem: Mapping[str, Any], definition: Mapping[str, Any]) -> str:
    extra = as_object(problem.get("extra_info"))
    name, details = as_text(extra.get("input_name")), as_text(problem.get("details"))
    match problem.get("type"):
        case "value_not_in_list":
            received = quoted(extra.get("received_value"))
            return f"{name} {received} is not available; {_allowed(extra, definition)}"
        case "required_input_missing":
            return f"{name or details} is missing"
        case "value_smaller_than_min" | "value_bigger_than_max":
            return f"{name}: {as_text(problem.get('message'))}"
        case "exception_during_validation" | "exception_during_inner_validation" if (
            extra.get("exception_type") == "KeyError"
        ):
            return f"it is linked to a node {details} that is not in the workflow"
    message = (as_text(problem.get("message")) or as_text(problem.get("type")) or "no reason").rstrip(".")
    return f"{message} ({details})" if details else message


def _allowed(extra: Mapping[str, Any], definition: Mapping[str, Any]) -> str:
    """Name the choices of an input: from the refusal, or from the node's definition when the list is long."""
    name = as_text(extra.get("input_name"))
    sections = map(as_object, as_object(definition.get("input")).values())
    specs = [extra.get("input_config"), *(section.get(name) for section in sections)]
    found = [
        options for spec in specs if isinstance(spec, list) and (options := combo_options(spec)) is not None
    ]
    return choices(extra.get("received_value"), found[0]) if found else "ComfyUI does not list the options"


def choices(received: Any, options: Sequence[Any]) -> str:
    """Name what an input takes instead of a value, as the end of a sentence; the nearest name first."""
    from difflib import get_close_matches  # only mistakes pay for it

    if not options:
        return "the list of options is empty"
    names = [visible(shortened(str(option), 200), lines=False) for option in options]
    lower = {name.lower(): name for name in reversed(names)}
    close = [lower[name] for name in get_close_matches(str(received)[:200].lower(), lower, n=1, cutoff=0.7)]
    shown = ", ".join(names[:ALLOWED_SHOWN])
    more = f" … ({len(names) - ALLOWED_SHOWN} more)" if len(names) > ALLOWED_SHOWN else ""
    return f"choose one of {shown}{more}" + (f". Did you mean {close[0]}?" if close else "")


def combo_options(spec: Sequence[Any]) -> list[Any] | None:
    """The choices of an input: ``[["a", "b"], {…}]`` in old nodes, ``["COMBO", {"options": […]}]`` in new."""
    if spec and isinstance(spec[0], list):
        return spec[0]
    if len(spec) > 1 and spec[0] == "COMBO" and isinstance(spec[1], Mapping):
        options = spec[1].get("options")
        return options if isinstance(options, list) else None
    return None


def _missing_models(problems: Iterable[tuple[str, str, Mapping[str, Any]]]) -> Iterator[str]:
    """Names of model files that are not there: what no list knows and looks like a file of weights."""
    for _, _, problem in problems:
        received = as_object(problem.get("extra_info")).get("received_value")
        if problem.get("type") == "value_not_in_list" and _is_weights(received):
            yield str(received)


def _is_weights(name: Any) -> bool:
    return isinstance(name, str) and name.lower().endswith(
        (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".sft", ".gguf", ".pkl")
    )
