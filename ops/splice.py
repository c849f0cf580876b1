"""Rewrite the sections of the registry file that belong to the tool, without touching a byte above them.

The hand-written part keeps its comments, quotes, order and line ends. The
tool's sections start at the first line that begins with one of their names
and reach to the end of the file; what stands there is replaced as text.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from backend.errors import RegistryError
from ops.disk import write_whole

OWNED: Final = ("local_scan", "runpod_status")
_NOTE: Final = "# Written by inv models.scan --write and inv models.compare --write, to the end of the file."
# An escaped backslash is passed over, so that what follows it is not taken for an escape.
_NOT_YAML: Final = re.compile(r"\\\\|\\u(d[89ab]..)\\u(d[c-f]..)|\x7f")
_KEY: Final = re.compile(rb"(?m)^[\"']?(local_scan|runpod_status)[\"']?[ \t]*:")
_NOTE_LINE: Final = re.compile(
    rb"(?m)^" + re.escape(_NOTE.encode()) + rb"[ \t]*\r?\n(?=local_scan|runpod_status)"
)


def split(content: bytes) -> tuple[bytes, bytes]:
    """Cut a registry into what people wrote and what the tool owns.

    Raises:
        RegistryError: it is no YAML mapping, or something that is not the tool's stands after the
            tool's sections.
    """
    try:
        node = yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unusable(" ".join(str(error).split())) from error
    if node is None:
        return content, b""
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        raise _unusable("it is not a mapping of sections on lines of their own")
    if any(key.start_mark.column for key, _ in node.value):
        raise _unusable("its sections do not begin at the left edge")
    keys = [(key.start_mark.line, getattr(key, "value", None)) for key, _ in node.value]
    first = min((line for line, key in keys if key in OWNED), default=None)
    if first is None:
        return content, b""
    foreign = [str(key) for line, key in keys if line > first and key not in OWNED]
    if foreign:
        raise RegistryError(
            "The registry",
            [f"after line {first + 1}, where the tool's sections begin, stands {', '.join(foreign)}"],
            hint=f"Move it above {' and '.join(OWNED)}: these two are rewritten to the end of the file.",
        )
    match = next(m for m in _KEY.finditer(content) if _line(content, m.start()) == first)
    note = next((m for m in _NOTE_LINE.finditer(content) if m.end() == match.start()), match)
    return content[: note.start()], content[note.start() :]


def _unusable(problem: str) -> RegistryError:
    return RegistryError("The registry", [f"{problem}; nothing was written to it"])


def _line(content: bytes, offset: int) -> int:
    """Count the lines before an offset as YAML does: it also ends lines at a lone CR and at some others."""
    return len(re.findall(r"\r\n|[\r\n\x85\u2028\u2029]", content[:offset].decode("utf-8")))


def splice(content: bytes, sections: Mapping[str, Any]) -> bytes:
    """Give the file with the tool's sections replaced; the part above is the same bytes.

    Args:
        content: the file.
        sections: ``local_scan`` and ``runpod_status``, values of JSON; one that is not given stays.

    Raises:
        RegistryError: see `split`.
    """
    head, tail = split(content)
    kept = yaml.safe_load(tail.decode("utf-8")) or {}
    values = {name: sections.get(name, kept.get(name)) for name in OWNED}
    newline = "\r\n" if b"\r\n" in head and b"\n" not in head.replace(b"\r\n", b"") else "\n"
    lines = [_NOTE]
    for name in OWNED:
        if values[name] is not None:
            lines += _dump(name, values[name])
    text = newline.join([*lines, ""])
    gap = b"" if not head or head.endswith((b"\n", b"\r")) else newline.encode()
    spliced = head + gap + text.encode()
    _check(head, spliced, values)
    return spliced


def _check(head: bytes, spliced: bytes, values: Mapping[str, Any]) -> None:
    """Make sure that what was put together reads as both of its parts."""
    expected = (yaml.safe_load(head.decode("utf-8")) or {}) | {
        name: value for name, value in values.items() if value is not None
    }
    try:
        same = yaml.safe_load(spliced.decode("utf-8")) == expected
    except yaml.YAMLError:
        same = False
    if not same:
        raise _unusable("its upper part does not end where sections can begin")


def _dump(name: str, value: Any) -> list[str]:
    """Write a section: its scalars and lists as JSON, which is YAML, so that nothing needs quoting rules."""
    if not isinstance(value, Mapping) or not value:
        return [f"{name}: {_json(value)}"]
    lines = [f"{name}:"]
    for key, entry in value.items():
        if isinstance(entry, list) and entry:
            lines.append(f"  {_json(key)}:")
            lines += [f"    - {_json(item)}" for item in entry]
        else:
            lines.append(f"  {_json(key)}: {_json(entry)}")
    return lines


def _json(value: Any) -> str:
    """Write JSON that is YAML too, which knows no surrogate pairs and forbids a bare DEL."""

    def mend(match: re.Match[str]) -> str:
        if match[1]:
            point = 0x10000 + ((int(match[1], 16) - 0xD800) << 10) + (int(match[2], 16) - 0xDC00)
            return f"\\U{point:08x}"
        return "\\x7f" if match[0] == "\x7f" else match[0]

    return _NOT_YAML.sub(mend, json.dumps(value, ensure_ascii=True))


def write_sections(path: Path, sections: Mapping[str, Any]) -> None:
    """Rewrite the tool's sections of a registry file.

    Raises:
        RegistryError: see `split`.
    """
    write_whole(path, splice(path.read_bytes(), sections))
