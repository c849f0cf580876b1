"""What a caller gives for an input file: a path, a name, an address or a result, told apart and checked.

Pure, but for looking whether a file is there. Each function raises a
``ValueError`` whose text ends the sentence that begins with the argument's name.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from backend.validation.checks import (
    address_problem,
    data_address_bytes,
    file_address_path,
    is_address,
    path_problem,
    text_problem,
)
from backend.validation.printable import quoted
from backend.verbs.params import InputLike
from backend.verbs.result import GeneratedFile

MAX_PATH_CHARS: Final = 4096
MAX_NAME_BYTES: Final = 255
"""Of a file name, on every usual file system."""
MAX_DATA_CHARS: Final = 100 * 1024 * 1024
_ANNOTATION: Final = re.compile(r" \[(?:input|output|temp)\]$")
"""Ends a name that says in which of ComfyUI's folders it is."""
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_WINDOWS: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")
ASSET: Final = "asset:"
"""Begins the name of a file that a Comfy API server keeps."""


def input_file(value: Any) -> InputLike:
    """Check that a file can be meant, and that it is there where only a path here can be meant.

    A ``file:`` address becomes its path, and an http or https address has its scheme in lower case. A name
    must be one that the worker takes too.
    """
    if isinstance(value, GeneratedFile):
        return value
    if not isinstance(value, str | os.PathLike):
        kind = type(value).__name__
        raise ValueError(f"must be a path, a name, an https:// address or a GeneratedFile, not {kind}")
    text = os.fsdecode(value)
    if not text.strip():
        raise ValueError("must not be empty")
    if isinstance(value, str):
        if text[:5].lower() == "data:":
            return _data(text)
        if is_address(text):
            return _address(text)
        if text[:5].lower() == "file:":
            return _file(text)
    path = _local(text)
    if path is not None:
        return path
    if isinstance(value, os.PathLike) or text.startswith((".", "~")) or Path(text).is_absolute():
        raise ValueError(f"not found on this machine: {quoted(text)}")
    return _name(text)


def output_place(value: Any) -> Path:
    """Check that a path can be written to on some disk."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"must be a path, not {type(value).__name__}")
    text = os.fsdecode(value)
    if not text.strip():
        raise ValueError("must not be empty")
    if problem := _path_text_problem(text):
        raise ValueError(problem)
    if long := next((part for part in Path(text).parts if len(os.fsencode(part)) > MAX_NAME_BYTES), None):
        raise ValueError(
            f"has the component {quoted(long, 60)}; a file name may have at most {MAX_NAME_BYTES} bytes"
        )
    return _expanded(text)


def _address(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    text = f"{scheme.lower()}{colon}{rest}"
    if problem := address_problem(text):
        raise ValueError(f"{problem}: {quoted(text)}")
    return text


def _data(text: str) -> str:
    if len(text) > MAX_DATA_CHARS:
        raise ValueError(f"is a data: URI of {len(text)} characters; at most {MAX_DATA_CHARS} are allowed")
    if not data_address_bytes(text)[1]:
        raise ValueError("is a data: URI without data")
    return text


def _file(text: str) -> Path:
    path = file_address_path(text)
    if path is None:
        raise ValueError(f"is not a file on this machine: {quoted(text)}")
    found = _local(str(path))
    if found is None:
        raise ValueError(f"not found on this machine: {quoted(text)}")
    return found


def _local(text: str) -> Path | None:
    """The file of this machine that a text names; None if it does not exist."""
    if problem := _path_text_problem(text):
        raise ValueError(problem)
    path = _expanded(text)
    try:
        return path if path.is_file() else None
    except OSError as error:
        raise ValueError(f"cannot be read: {quoted(text)}: {error.strerror}") from None


def _path_text_problem(text: str) -> str | None:
    if len(text) > MAX_PATH_CHARS:
        return f"has {len(text)} characters; a path may have at most {MAX_PATH_CHARS}"
    if "\0" in text:
        return "contains a NUL character"
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return text_problem(text) or "is not valid Unicode"
    return None


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"has an unknown user: {quoted(text)}") from None


def _name(text: str) -> str:
    """A name that ComfyUI's input folder may hold."""
    if text.startswith(ASSET):
        return text
    if _WINDOWS.match(text):
        raise ValueError(f"not found on this machine: {quoted(text)}")
    plain = _ANNOTATION.sub("", text)
    if ".." in plain.split("/"):
        raise ValueError(f"must stay inside ComfyUI's input folder, got {quoted(text)}")
    if (found := _SCHEME.match(plain)) and "/" in plain:
        raise ValueError(f"has the scheme {found[1]}; only https and file are supported")
    if problem := path_problem(plain):
        raise ValueError(f"is not a valid input file name: {quoted(text)}: {problem}")
    return text
