"""Checks of what comes in from outside, before it becomes a file name, an address, JSON or a request. Pure.

The client and the worker use the same checks, so that no job is paid for that
the worker would refuse. ``…_problem`` says what is wrong as the end of a
sentence, or gives None; ``check_…`` raises an `InvalidArgument` with it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from backend.errors import InvalidArgument
from backend.validation.printable import quoted

MAX_ID_CHARS: Final = 128
"""RunPod's ids have about 40 characters, ComfyUI's and Hedra's 36."""
MAX_ADDRESS_CHARS: Final = 8192
"""Signed addresses have up to 2,000; servers take 8,000."""
MAX_TEXT_CHARS: Final = 1_000_000
"""Far above every prompt; a text above it is a file by mistake."""
MAX_JSON_DEPTH: Final = 100
MAX_JSON_BITS: Final = 1024
"""Integers above that fit no float, and most JSON readers refuse them."""

# A file name may have 255 bytes on every usual file system; a record's name is 5 longer than its file's,
# and an aside copy another 20. An S3 key may have 1024.
MAX_NAME_BYTES: Final = 230
MAX_PATH_BYTES: Final = 900
MAX_KEY_BYTES: Final = 1024
"""Of a path that exists already: what an S3 key may have."""

_SUFFIXES: Final = {"jpeg": "jpg", "mpeg": "mp3", "x-wav": "wav", "quicktime": "mov", "octet-stream": ""}
_WINDOWS_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{name}{digit}" for name in ("com", "lpt") for digit in "0123456789¹²³"}
)
_WINDOWS_FORBIDDEN: Final = frozenset('<>:"|?*\\')


# --- ids ---------------------------------------------------------------------


def is_id(value: object) -> bool:
    """Tell whether a value can be the id of a job, a run or a resource: letters, digits, ``-`` and ``_``."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARS or not value.isascii():
        return False
    return value.replace("-", "a").replace("_", "a").isalnum()


def check_id(value: object, what: str = "job id") -> str:
    """Return an id back. It may then be used as a file name and in an address.

    Args:
        value: from a caller, a file or a server.
        what: whose id it is, for the error.

    Raises:
        InvalidArgument: it is not an id.
    """
    if not isinstance(value, str) or not is_id(value):
        raise InvalidArgument(
            f"{quoted(value, 60)} is not a {what}: an id has 1 to {MAX_ID_CHARS} letters, digits, - and _."
        )
    return value


# --- paths and names ---------------------------------------------------------


def check_path(path: str) -> str:
    """Return a path back that stays inside whatever folder it is joined to, on every system.

    It is safe under both path grammars, POSIX and Windows, because the same registry is used on laptops
    and on RunPod.

    Args:
        path: relative, POSIX, for example ``"models/checkpoints/x.safetensors"``.

    Raises:
        InvalidArgument: it is absolute, climbs, names a device, hides a separator in a look-alike,
            holds a control character or is too long; the message says which.
    """
    problem = path_problem(path)
    if problem is not None:
        raise InvalidArgument(
            f"{quoted(path)} is not a usable path: {problem}.",
            hint="Use a relative path with forward slashes, for example checkpoints/x.safetensors.",
        )
    return path


def path_problem(path: str) -> str | None:
    """Say what is wrong with a path, as the end of a sentence, or None."""
    import unicodedata  # loaded with the first path, not with `import backend`

    if (problem := _length_problem(path, MAX_PATH_BYTES)) is not None:
        return problem
    if path.startswith(("/", "~")):
        return "it is absolute"
    # A file system or a tool that folds compatibility forms would see other separators and dots than we do.
    folded = unicodedata.normalize("NFKC", path)
    if folded.count("/") != path.count("/") or folded.count("\\") != path.count("\\"):
        return "it holds a look-alike of a separator"
    for name, folded_name in zip(path.split("/"), folded.split("/"), strict=True):
        problem = _name_problem(name) or (_folded_problem(folded_name) if folded_name != name else None)
        if problem is not None:
            return problem
    return None


def _length_problem(path: str, limit: int) -> str | None:
    """Say that a path is empty, not Unicode or longer than the limit in bytes, as the end of a sentence."""
    if not path:
        return "it is empty"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    return f"it has {size} bytes and {limit} are allowed" if size > limit else None


def check_contained(path: str) -> str:
    """Return a path that exists already and stays inside the folder that it is joined to.

    Its author chose the name: a file on a volume, a file in a repository of others. Names that this
    tool creates need `check_path`.

    Raises:
        InvalidArgument: it is absolute, climbs, is too long or is not text that a file system can hold.
    """
    problem = contained_problem(path)
    if problem is not None:
        raise InvalidArgument(f"{quoted(path)} is not a usable path: {problem}.")
    return path


def contained_problem(path: str) -> str | None:
    """Say how a path could leave its folder or name no file, as the end of a sentence, or None."""
    if (problem := _length_problem(path, MAX_KEY_BYTES)) is not None:
        return problem
    if "\0" in path:
        return "it holds the invisible character '\\x00'"
    if path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", path):
        return "it is absolute"
    # A backslash is part of a name on a volume, and a separator where Windows joins the path.
    for name in re.split(r"[/\\]", path):
        if name in {".", ".."}:
            return f"it has the component {name!r}"
    return "it has an empty component" if "" in path.split("/") else None


def _folded_problem(name: str) -> str | None:
    """Say what is dangerous about a component once compatibility forms are folded.

    A full-width colon is an ordinary letter of a name, except where it would make a drive of it.
    """
    if name in {".", ".."}:
        return f"it has the component {name!r}"
    if name[-1:] in {".", " "}:
        return "a component ends with a dot or a space, which Windows drops"
    if re.match(r"[A-Za-z]:", name):
        return f"it holds a look-alike of the drive {name[:2]!r}"
    stem = name.partition(".")[0].rstrip()
    return f"{stem!r} is a device on Windows" if stem.casefold() in _WINDOWS_DEVICES else None


def _name_problem(name: str) -> str | None:
    """Say what is wrong with one component of a path."""
    import unicodedata

    if not name:
        return "it has an empty component"
    if name in {".", ".."}:
        return f"it has the component {name!r}"
    if name[-1] in ". ":
        return "a component ends with a dot or a space, which Windows drops"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"a component has more than {MAX_NAME_BYTES} bytes"
    for char in name:
        if char in _WINDOWS_FORBIDDEN:
            return f"{char!r} cannot be in a file name on Windows"
        # Cc: controls, NUL too. Cf: invisible ones that reorder text or hide in it. Zl, Zp: line breaks.
        if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"}:
            return f"it holds the invisible character {char!r}"
    stem = name.partition(".")[0].rstrip()
    if stem.casefold() in _WINDOWS_DEVICES:
        return f"{stem!r} is a device on Windows"
    return None


# --- texts -------------------------------------------------------------------


def text_problem(text: str, *, max_chars: int = MAX_TEXT_CHARS) -> str | None:
    """Say why a text cannot be sent, as the end of a sentence, or None.

    A lone surrogate is half a character of UTF-16. UTF-8, and so a JSON body or a file name, cannot hold it.
    """
    if len(text) > max_chars:
        return f"has {len(text)} characters, and at most {max_chars} are allowed"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds half a character (U+{ord(text[error.start]):04X}) at position {error.start}"
    return None


# --- addresses ---------------------------------------------------------------


def is_address(text: str) -> bool:
    """Tell whether a text starts as an http or https address does."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def address_problem(url: str) -> str | None:
    """Say why an http or https address cannot be used, as the end of a sentence, or None."""
    import unicodedata

    if len(url) > MAX_ADDRESS_CHARS:
        return f"has {len(url)} characters, and an address may have {MAX_ADDRESS_CHARS}"
    if not is_address(url):
        return "is not an http or https address"
    if any(char.isspace() or unicodedata.category(char) in {"Cc", "Cs"} for char in url):
        return "holds a space, a control character or half a character"
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        return f"is not a valid address: {error}"
    return None if usable else "has no host"


def file_address_path(url: str) -> Path | None:
    """The local path that a ``file:`` address names; None for an address of another scheme or machine.

    Source: RFC 8089: the host is empty or ``localhost``; ``/C:/x`` is a path with a drive.
    """
    if url[:5].lower() != "file:":
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.netloc.lower() not in ("", "localhost"):
        return None
    path = unquote(parts.path, errors="surrogateescape")
    return Path(path[1:] if re.match(r"/[A-Za-z]:", path) else path)


def data_address_bytes(uri: str) -> tuple[str, bytes]:
    """The media type and the bytes of a ``data:`` URI. Source: RFC 2397.

    Raises:
        ValueError: it has no comma or is not base64; the text ends a sentence.
    """
    import base64
    import binascii

    head, comma, body = uri.partition(",")
    if uri[:5].lower() != "data:" or not comma:
        raise ValueError("is not a data: URI (data:image/png;base64,…)")
    media_type, *parameters = head[5:].split(";")
    if "base64" not in (parameter.strip().lower() for parameter in parameters):
        return media_type, unquote_to_bytes(body)
    try:
        return media_type, base64.b64decode(unquote(body) if "%" in body else body, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is a data: URI whose base64 is broken") from None


def media_suffix(media_type: str) -> str:
    """The suffix of files of a media type, with its dot; "" where the type names none."""
    kind = media_type.partition(";")[0].strip().lower().rpartition("/")[2]
    suffix = _SUFFIXES.get(kind, kind)
    return f".{suffix}" if re.fullmatch(r"[a-z0-9]{2,5}", suffix) else ""


# --- JSON values -------------------------------------------------------------


class JsonProblem:
    """A part of a value that JSON cannot hold.

    Attributes:
        path: keys and positions that lead to it, from the whole value.
        sentence: what is wrong, as the end of a sentence.
    """

    __slots__ = ("path", "sentence")

    def __init__(self, path: tuple[str | int, ...], sentence: str) -> None:
        self.path = path
        self.sentence = sentence

    def __str__(self) -> str:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return f"{place.lstrip('.') or 'it'} {self.sentence}"


def json_problems(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[JsonProblem]:
    """Find what keeps a value from being sent as JSON: types, numbers, texts, depth.

    Mappings, lists and tuples may hold None, booleans, integers, finite numbers and texts. Keys may be
    texts and integers. A value that holds itself is too deep.
    """
    ahead: list[tuple[Any, tuple[str | int, ...]]] = [(value, path)]
    while ahead:
        item, place = ahead.pop()
        if isinstance(item, Mapping | list | tuple) and len(place) - len(path) >= MAX_JSON_DEPTH:
            yield JsonProblem(place[: len(path) + 3], f"is nested more than {MAX_JSON_DEPTH} levels deep")
            return
        match item:
            case Mapping():
                for key, inner in item.items():
                    if sentence := _key_problem(key):
                        yield JsonProblem(place, sentence)
                    else:
                        ahead.append((inner, (*place, key if isinstance(key, str) else str(key))))
            case list() | tuple():
                ahead += [(inner, (*place, number)) for number, inner in enumerate(item)]
            case _:
                if sentence := _scalar_problem(item):
                    yield JsonProblem(place, sentence)


def _key_problem(key: Any) -> str | None:
    if isinstance(key, bool) or not isinstance(key, str | int):
        return f"has the key {quoted(key, 60)}, which is not a text"
    problem = text_problem(key) if isinstance(key, str) else None
    return problem and f"has a key that {problem}"


def _scalar_problem(value: Any) -> str | None:
    if isinstance(value, str):
        return text_problem(value, max_chars=len(value))  # the whole body has a limit of its own
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return "is an integer too large for JSON" if value.bit_length() > MAX_JSON_BITS else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value}, which JSON does not have"
    return f"is a value of type {type(value).__name__}, which JSON does not have"
