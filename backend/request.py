"""A verb and its arguments, checked before anything is sent.

Pure, but for looking whether a file is there."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.contract import Verb
from backend.errors import InvalidArgument
from backend.params import PARAMS, InputLike, Lora, Param
from backend.result import GeneratedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A verb and its arguments, checked.

    Attributes:
        verb: which.
        given: the arguments that the caller gave, without None.
        output_path: where the result goes, or None to leave it where it lies.
        keep_there: the backend keeps the files too, for a next job to use.
    """

    verb: Verb
    given: Mapping[str, Any]
    output_path: Path | None = None
    keep_there: bool = False

    def __getitem__(self, name: str) -> Any:
        """Give an argument, or its default."""
        value = self.given.get(name)
        return PARAMS[self.verb][name].default if value is None else value


def read(verb: Verb, given: Mapping[str, Any]) -> Request:
    """Check the arguments of a verb. None means "not given".

    Raises:
        InvalidArgument: one sentence a problem, all at once.
    """
    table = PARAMS[verb]
    kept = {name: value for name, value in given.items() if value is not None}
    problems = [
        f"{name!r} is not an argument of {verb}{_did_you_mean(name, table)}"
        for name in kept
        if name not in table
    ]
    problems += [f"{name} is missing" for name, spec in table.items() if spec.required and name not in kept]
    values: dict[str, Any] = {}
    for name, value in kept.items():
        if name in table:
            try:
                values[name] = _checked(table[name], value)
            except ValueError as error:
                problems.append(f"{name} {error}")
    if problems:
        all_known = kept.keys() <= table.keys()
        hint = None if all_known else f"{verb} takes {', '.join(table)}."
        raise InvalidArgument(f"{verb}: {'; '.join(problems)}.", hint=hint)
    output_path = values.pop("output_path", None)
    return Request(verb=verb, given=values, output_path=output_path)


def _did_you_mean(name: str, table: Mapping[str, Param]) -> str:
    from difflib import get_close_matches  # only mistakes pay for it

    close = get_close_matches(name, table, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _checked(spec: Param, value: Any) -> Any:
    """Give a value in its own type, or say in a ValueError what is wrong with it."""
    match spec.what:
        case "text":
            if not isinstance(value, str):
                raise ValueError(f"must be text, not {type(value).__name__}")
            if spec.required and not value.strip():
                raise ValueError("must not be empty")
            if spec.filename and not re.fullmatch(r"(?!\.)[^/\\\x00-\x1f]{1,100}", value):
                raise ValueError(f"must be a plain file name, not {value!r}")
        case "choice":
            if value not in spec.choices:
                raise ValueError(f"is {value!r}, and must be one of {', '.join(spec.choices)}")
        case "boolean":
            if not isinstance(value, bool):
                raise ValueError(f"must be true or false, not {value!r}")
        case "integer" | "number":
            value = _number(spec, value)
        case "input":
            value = _input(value)
        case "inputs":
            if not isinstance(value, Mapping):
                raise ValueError("must map names in the graph to files")
            value = {str(name): _input(item) for name, item in value.items()}
        case "loras":
            value = _loras(value)
        case "graph":
            value = _graph(value)
        case "path":
            value = Path(value).expanduser()
    return value


def _number(spec: Param, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"must be a number, not {value!r}")
    if spec.what == "integer":
        if value != int(value):
            raise ValueError(f"must be a whole number, not {value}")
        value = int(value)
    low, high = spec.low, spec.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"is {value}, and must be from {low} to {high}")
    if spec.step and value % spec.step:
        raise ValueError(f"is {value}, and must be a multiple of {spec.step}")
    number: int | float = value
    return number


def _input(value: Any) -> InputLike:
    """Check that a file can be meant, and that it is there where only a path here can be meant."""
    if isinstance(value, GeneratedFile):
        return value
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"must be a path, a name, an https:// address or a GeneratedFile, not {value!r}")
    text = os.fspath(value)
    if not text.strip():
        raise ValueError("must not be empty")
    if re.match(r"https?://", text):
        return text
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if path.is_absolute() or text.startswith((".", "~")) or isinstance(value, os.PathLike):
        raise ValueError(f"names {text!r}, and there is no such file here")
    if ".." in path.parts:
        raise ValueError(f"names {text!r}, which leaves ComfyUI's input folder")
    return text


def _graph(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("must be a workflow in API format: an object of nodes")
    from backend.graph_check import check_structure

    check_structure(value)
    return value


def load_graph(path: str | os.PathLike[str]) -> Any:
    """Read a workflow from a JSON file of this machine.

    Raises:
        InvalidArgument: it cannot be read, or is not JSON.
    """
    file = Path(path).expanduser()
    try:
        return json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InvalidArgument(f"The workflow {str(file)!r} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InvalidArgument(f"The workflow {str(file)!r} is not JSON: {error}.") from None


def _loras(value: Any) -> list[Lora]:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")
    loras: list[Lora] = []
    for item in value:
        entry = {"name": item} if isinstance(item, str) else item
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise ValueError(f"has an entry without a name: {item!r}")
        strengths = {"strength_model": 1.0, "strength_clip": 1.0, **entry}
        if unknown := set(strengths) - {"name", "strength_model", "strength_clip"}:
            raise ValueError(f"has an entry with unknown keys: {', '.join(sorted(unknown))}")
        for key in ("strength_model", "strength_clip"):
            if not isinstance(strengths[key], int | float) or not -10 <= strengths[key] <= 10:
                raise ValueError(f"has a {key} that is not from -10 to 10: {strengths[key]!r}")
        loras.append(strengths)  # type: ignore[arg-type]  # its keys and types were just checked
    return loras
