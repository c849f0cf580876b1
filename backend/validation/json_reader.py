"""JSON that other programs wrote: read within bounds, and taken apart without surprises. Pure.

`read_json` is the one reader of answers, files and messages from outside. It
bounds size and depth, and gives values that any later writer can hold: numbers
are finite, texts are valid Unicode. Whatever is wrong is an `InvalidJson`.

The shape helpers (``as_…``) give a value in one type, or the empty value of
that type; they never raise. `error_in` finds an error wherever a program put it.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from backend.errors import InvalidJson
from backend.validation.printable import shortened

MAX_BYTES: Final = 64 * 1024 * 1024
"""Largest document that is read; RunPod's largest answer has 20 MB."""
MAX_DEPTH: Final = 100
"""Deepest nesting that is read: ComfyUI's deepest known answers have about 15 levels."""
_MAX_DIGITS: Final = 308
"""Digits of an integer that still fits a float; a longer one would raise wherever it meets one."""
_SHOWN_KEYS: Final = 8


def read_json(
    content: bytes | str,
    *,
    what: str = "The answer",
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    finite: bool = True,
) -> Any:
    """Parse a document. A number that is not finite becomes None, and a lone surrogate U+FFFD.

    Args:
        content: UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        what: names the document, to begin the error's sentence.
        max_bytes, max_depth: its bounds.
        finite: False leaves numbers that are not finite as they are, for whoever says where they stand.

    Raises:
        InvalidJson: it is not JSON, or outside the bounds.
    """
    if len(content) > max_bytes:
        raise InvalidJson(f"{what} has {len(content)} bytes; at most {max_bytes} are read.")
    try:
        text = content if isinstance(content, str) else _decoded(content)
        value = _finite_decoder().decode(text) if finite else json.loads(text)
    except RecursionError:
        raise InvalidJson(f"{what} is nested too deeply.") from None
    except ValueError as error:
        raise InvalidJson(f"{what} is not JSON: {error}.") from None
    # Few brackets cannot be deep; only a document with many is walked.
    if text.count("[") + text.count("{") > max_depth and _is_deeper(value, max_depth):
        raise InvalidJson(f"{what} is nested more than {max_depth} levels deep.")
    return without_surrogates(value) if "\\u" in text or not _is_utf8(text) else value


def read_json_file(path: Path, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Parse a file; see `read_json`.

    Raises:
        InvalidJson: it is not JSON, or outside the bounds.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    return read_json(content, what=str(path), max_bytes=max_bytes, max_depth=max_depth)


@cache
def _finite_decoder() -> json.JSONDecoder:
    """Made once: building one takes longer than reading a small document."""
    return json.JSONDecoder(parse_constant=_no_number, parse_float=_float, parse_int=_integer)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(content: bytes) -> str:
    return content.decode(json.detect_encoding(content), "replace").removeprefix("\ufeff")


def _no_number(_: str) -> None:
    """NaN and Infinity, which Python writes and JSON does not have."""
    return


def _float(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _integer(text: str) -> int | None:
    return int(text) if len(text) <= _MAX_DIGITS else None


def _is_deeper(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth):
        level = [child for item in level for child in _children(item) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def without_surrogates(value: Any) -> Any:
    """Copy a JSON value with each lone surrogate replaced by U+FFFD, so that it can be written as UTF-8."""
    match value:
        case str():
            # Two halves that belong together become their character.
            return (
                value
                if _is_utf8(value)
                else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            )
        case dict():
            return {without_surrogates(name): without_surrogates(item) for name, item in value.items()}
        case list():
            return [without_surrogates(item) for item in value]
    return value


def as_object(value: Any) -> Mapping[str, Any]:
    """The value where it is an object, else {}."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """The value where it is a list, else []."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """The value where it is a text, a number as text, else ""."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def as_number(value: Any) -> float | None:
    """The value as a finite number, also where it is the text of one; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_count(value: Any) -> int | None:
    """The value as a whole number from 0 up, for example a size in bytes; else None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    number = as_number(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def as_sha256(value: Any) -> str | None:
    """The value as a sha256 in lower-case hex, else None."""
    found = re.fullmatch(r"(?:sha256:)?([0-9A-Fa-f]{64})", value.strip()) if isinstance(value, str) else None
    return found[1].lower() if found else None


def as_texts(value: Any) -> list[str]:
    """The texts of a list; a text alone is a list of one, and an item of another type is shown shortened."""
    items = value if isinstance(value, list | tuple) else [value]
    return [as_text(item) or shortened(str(item), 200) for item in items if item not in (None, "")]


def error_in(value: Any) -> Any:
    """The error that an answer reports, wherever it stands; None where it reports none.

    Looks at ``error``, ``errors`` and ``error_message``, also one level down in ``output``, ``result``
    and ``data``, and takes a status that says "error" or "failed" for one.
    """
    error = _own_error(value)
    if error is None:
        inner = (as_object(value).get(name) for name in ("output", "result", "data"))
        error = next((found for item in inner if (found := _own_error(item)) is not None), None)
    if error is None and str(as_object(value).get("status", "")).lower() in ("error", "failed", "failure"):
        names = ("message", "detail", "details", "reason")
        error = next((item for name in names if (item := as_object(value).get(name))), "no reason given")
    return error


def _own_error(value: Any) -> Any:
    answer = as_object(value)
    return next((answer[name] for name in ("error", "errors", "error_message") if answer.get(name)), None)


def needed_text(value: Any, name: str, what: str) -> str:
    """A text field that an answer must have.

    Raises:
        InvalidJson: it has none; the message says what it has instead.
    """
    text = as_text(as_object(value).get(name))
    if not text:
        raise InvalidJson(f"{what} has no {name}: it is {shape_of(value)}.")
    return text


def objects_in(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; whatever else is in it is left out."""
    return [item for item in as_list(value) if isinstance(item, Mapping)]


def shape_of(value: Any) -> str:
    """What a value looks like, without its content, for an error: ``an object with files (list of 2)``."""
    match value:
        case Mapping():
            keys = [f"{shortened(str(name), 40)} ({_kind(item)})" for name, item in value.items()]
            more = f", and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
            return f"an object with {', '.join(keys[:_SHOWN_KEYS])}{more}" if keys else "an empty object"
        case list():
            kinds = ", ".join(sorted({_kind(item) for item in value[:100]}))
            return f"a list of {len(value)}: {kinds}" if value else "an empty list"
    return _kind(value)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return f"text of {len(value)} characters"
        case Mapping():
            return f"object of {len(value)}"
        case list():
            return f"list of {len(value)}"
    return type(value).__name__
