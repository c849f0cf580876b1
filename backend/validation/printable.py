"""Text and addresses from outside, made fit for terminals, logs and error messages. Pure."""

import re
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

MAX_SHOWN: Final = 2000
"""Characters of a foreign text that a message or a log line repeats."""
# Compiled with their first use, like every expression here: `import backend` must stay quick.
_ADDRESS: Final = r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+"
_DATA: Final = r"data:[\w.+-]+/[\w.+-]+[;,][^\s'\"<>]{40,}"
_CONTROL_SEQUENCE: Final = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"


def visible(text: str, *, lines: bool = True) -> str:
    """Write what no terminal shows as an escape.

    Args:
        text: anything; a byte of a name that is not UTF-8 is written as itself (``\\xff``).
        lines: leave line breaks as they are.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or (lines and char == "\n") else _escape(char) for char in text)


def plain(text: str) -> str:
    """Remove a terminal's control sequences (colors, titles, cursor movements) and control characters.

    Source: ECMA-48, 5.4 (control sequences) and 8.3.89 (operating system commands).
    """
    text = re.sub(_CONTROL_SEQUENCE, "", text)
    return text if text.isprintable() else "".join(char for char in text if char in "\t\n" or char >= " ")


def _escape(char: str) -> str:
    point = ord(char)
    byte = point - 0xDC00 if 0xDC80 <= point <= 0xDCFF else point  # see os.fsdecode
    return repr(char)[1:-1] if byte == point else f"\\x{byte:02x}"


def shortened(text: str, most: int = MAX_SHOWN) -> str:
    """Cut the middle out of a long text, and say how much: the reason stands at its start or its end."""
    if len(text) <= most:
        return text
    start = most * 2 // 3
    end = most - start
    return f"{text[:start]} … [{len(text) - most} characters left out] … {text[len(text) - end :]}"


def quoted(value: Any, most: int = 200) -> str:
    """A value in quotation marks for a message: escaped, shortened, its addresses without secrets."""
    if isinstance(value, str):
        # Cut before it is quoted: the repr of megabytes is slow.
        return repr(without_secrets(shortened(value, most)))
    import reprlib  # only mistakes pay for it

    try:
        return without_secrets(shortened(visible(reprlib.repr(value)), most))
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a value that holds itself
        return f"a value of type {type(value).__name__}"


def shown(url: str) -> str:
    """A URL fit to be shown: without query, fragment and credentials, any of which may hold a key."""
    if url[:5].lower() == "data:":
        return f"{url[:40].partition(',')[0]},…"
    try:
        parts = urlsplit(url)
    except ValueError:
        return re.split(r"[?#]", url.rpartition("@")[2], maxsplit=1)[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def without_secrets(text: str) -> str:
    """A text whose addresses have lost query, fragment and credentials, and its data: URIs their bytes."""
    if "://" in text:
        text = re.sub(_ADDRESS, lambda found: shown(found[0]), text)
    return re.sub(_DATA, lambda found: shown(found[0]), text) if "data:" in text else text
