"""A verb and its arguments, checked before anything is sent.

Pure, but for looking whether a file is there."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend.errors import InvalidArgument
from backend.validation.printable import quoted
from backend.verbs.catalog import find
from backend.verbs.params import InputLike, Lora, Param

MAX_NUMBER_BITS: Final = 64
"""The largest number that a node takes is a seed of 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A verb and its arguments, checked.

    Attributes:
        verb: which.
        given: the arguments that the caller gave, without None.
        output_path: where the result goes, or None to leave it where it lies.
        keep_there: the backend keeps the files too, for a next job to use.
    """

    verb: str
    given: Mapping[str, Any]
    output_path: Path | None = None
    keep_there: bool = False

    def __getitem__(self, name: str) -> Any:
        """Return an argument, or its default."""
        value = self.given.get(name)
        return self.params[name].default if value is None else value

    @property
    def params(self) -> Mapping[str, Param]:
        """The arguments that the verb has."""
        return find(self.verb).params

    def asks_for(self, name: str) -> bool:
        """Tell whether an argument is set to true or to a text; False if the verb has no such argument."""
        return name in self.params and bool(self[name])


def read(verb: str, given: Mapping[str, Any]) -> Request:
    """Check the arguments of a verb. None means "not given".

    Raises:
        InvalidArgument: one sentence a problem, all at once.
    """
    table = find(verb).params
    kept = {name: value for name, value in given.items() if value is not None}
    problems = [
        f"{name!r} is not an argument of {verb}{_did_you_mean(name, table)}"
        for name in kept
        if name not in table
    ]
    problems += [f"{name} is missing" for name, spec in table.items() if spec.required and name not in kept]
    values: dict[str, Any] = {}
    hint = None
    for name, value in kept.items():
        if name in table:
            try:
                values[name] = _checked(table[name], value)
            except InvalidArgument as error:  # a whole sentence of its own
                problems.append(error.message.rstrip("."))
                hint = error.hint
            except ValueError as error:
                problems.append(f"{name} {error}")
    if problems:
        all_known = kept.keys() <= table.keys()
        hint = hint if all_known else f"{verb} takes {', '.join(table)}."
        raise InvalidArgument(f"{verb}: {'; '.join(problems)}.", hint=hint)
    output_path = values.pop("output_path", None)
    return Request(verb=verb, given=values, output_path=output_path)


def _did_you_mean(name: str, table: Mapping[str, Param]) -> str:
    from difflib import get_close_matches  # only mistakes pay for it

    close = get_close_matches(name, table, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _checked(spec: Param, value: Any) -> Any:
    """Return a value in its own type, or say in a ValueError what is wrong with it."""
    from backend.validation.checks import text_problem
    from backend.verbs.api_graph import api_graph  # loaded with the first call, not with the backend
    from backend.verbs.input_files import input_file, output_place

    match spec.what:
        case "text":
            if not isinstance(value, str):
                raise ValueError(f"must be text, not {type(value).__name__}")
            if spec.required and not value.strip():
                raise ValueError("must not be empty")
            if problem := text_problem(value):
                raise ValueError(problem)
            if spec.filename and not re.fullmatch(r"(?!\.)[^/\\\x00-\x1f]{1,100}", value):
                raise ValueError(f"must be a plain file name, not {quoted(value)}")
        case "choice":
            if value not in spec.choices:
                raise ValueError(f"must be one of {', '.join(spec.choices)}, got {quoted(value)}")
        case "boolean":
            if not isinstance(value, bool):
                raise ValueError(f"must be true or false, not {quoted(value)}")
        case "integer" | "number":
            value = _number(spec, value)
        case "input":
            value = input_file(value)
        case "inputs":
            if not isinstance(value, Mapping):
                raise ValueError("must map names in the graph to files")
            value = {str(name): _named_input(name, item) for name, item in value.items()}
        case "loras":
            value = _loras(value)
        case "graph":
            value = api_graph(value)
        case "path":
            value = output_place(value)
    return value


def _number(spec: Param, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {quoted(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a number, not {value}")
    if spec.what == "integer":
        if value != int(value):
            raise ValueError(f"must be a whole number, not {value}")
        value = int(value)
    low, high = spec.low, spec.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"must be from {low} to {high}, got {quoted(value)}")
    if isinstance(value, int) and value.bit_length() > MAX_NUMBER_BITS:
        raise ValueError(f"must have at most {MAX_NUMBER_BITS} bits, got a number of {value.bit_length()}")
    if spec.step and value % spec.step:
        raise ValueError(f"must be a multiple of {spec.step}, got {value}")
    number: int | float = value
    return number


def _named_input(name: Any, value: Any) -> InputLike:
    """Check a file of a workflow, which the graph knows by a name."""
    from backend.validation.checks import text_problem
    from backend.verbs.input_files import input_file

    if not isinstance(name, str) or text_problem(name):
        raise ValueError(f"has the name {quoted(name)}, which no text in a graph can be")
    try:
        return input_file(value)
    except ValueError as error:
        raise ValueError(f"{quoted(name)} {error}") from None


def _loras(value: Any) -> list[Lora]:
    from backend.validation.checks import text_problem

    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")
    loras: list[Lora] = []
    for item in value:
        entry = {"name": item} if isinstance(item, str) else item
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise ValueError(f"has an entry without a name: {quoted(item)}")
        if problem := text_problem(entry["name"]):
            raise ValueError(f"has an entry whose name {problem}")
        strengths = {"strength_model": 1.0, "strength_clip": 1.0, **entry}
        if unknown := set(strengths) - {"name", "strength_model", "strength_clip"}:
            raise ValueError(f"has an entry with unknown keys: {', '.join(sorted(map(str, unknown)))}")
        for key in ("strength_model", "strength_clip"):
            if not isinstance(strengths[key], int | float) or not -10 <= strengths[key] <= 10:
                raise ValueError(f"has a {key} that is not from -10 to 10: {quoted(strengths[key])}")
        loras.append(strengths)  # type: ignore[arg-type]  # its keys and types were just checked
    return loras
