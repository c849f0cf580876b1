"""Rewrite the sections of the registry file that belong to the tool, without touching a byte above them.

The hand-written part keeps its comments, quotes, order and line ends. The
tool's sections start at the first of their names and reach to the end of the
file; what stands there is replaced as text.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from backend.errors import RegistryError
from ops.files.atomic import rewrite
from ops.files.yaml_positions import NotYaml, compose, read_value

OWNED: Final = ("local_scan", "runpod_status")
_NOTE: Final = "# Written by inv models.scan --write and inv models.compare --write, to the end of the file."
# An escaped backslash is passed over, so that what follows it is not taken for an escape.
_NOT_YAML: Final = re.compile(r"\\\\|\\u(d[89ab]..)\\u(d[c-f]..)|\x7f")
_NOTE_LINE: Final = re.compile(rf"(?m)(?:^|(?<=\ufeff)){re.escape(_NOTE)}[ \t]*\r?\n\Z")
_BOM: Final = b"\xef\xbb\xbf"
THE_REGISTRY: Final = "The registry"


def split(content: bytes, name: str = THE_REGISTRY) -> tuple[bytes, bytes]:
    """Cut a registry into what people wrote and what the tool owns.

    Args:
        content: the file.
        name: how to call it in an error.

    Raises:
        RegistryError: it is not a YAML mapping, or something that is not the tool's stands after the
            tool's sections.
    """
    try:
        text = content.decode("utf-8")
        node = compose(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unusable(name, f"line {line} is not text in UTF-8") from error
    except NotYaml as error:
        raise _unusable(name, f"it is not YAML: line {error.line}: {error.sentence}") from error
    if node is None:
        return content, b""
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        raise _unusable(name, "it is not a mapping of sections on lines of their own")
    if any(key.start_mark.column for key, _ in node.value):
        raise _unusable(name, "its sections do not begin at the left edge")
    keys = [(key.start_mark, getattr(key, "value", None)) for key, _ in node.value]
    first = next((mark for mark, key in keys if key in OWNED), None)
    if first is None:
        return content, b""
    foreign = [str(key) for mark, key in keys if mark.index > first.index and key not in OWNED]
    if foreign:
        raise RegistryError(
            name,
            [f"after line {first.line + 1}, where the tool's sections begin, stands {', '.join(foreign)}"],
            hint=f"Move it above {' and '.join(OWNED)}: these two are rewritten to the end of the file.",
        )
    head = _NOTE_LINE.sub("", text[: first.index])
    return head.encode(), text[len(head) :].encode()


def _unusable(name: str, problem: str, hint: str | None = None) -> RegistryError:
    return RegistryError(name, [f"{problem}; nothing was written to it"], hint=hint)


def splice(content: bytes, sections: Mapping[str, Any], name: str = THE_REGISTRY) -> bytes:
    """Return the file with the tool's sections replaced; the part above is the same bytes.

    Args:
        content: the file.
        sections: ``local_scan`` and ``runpod_status``, values of JSON; one that is not given stays.
        name: how to call it in an error.

    Raises:
        RegistryError: see `split`; or the tool's sections hold something other than JSON.
    """
    head, _ = split(content, name)
    try:
        kept = read_value(content.decode("utf-8")) or {}
        above = read_value(head.decode("utf-8")) or {}
    except NotYaml as error:
        raise _unusable(name, f"line {error.line}: {error.sentence}") from error
    values = {section: sections.get(section, kept.get(section)) for section in OWNED}
    newline = "\r\n" if b"\r\n" in head and b"\n" not in head.replace(b"\r\n", b"") else "\n"
    lines = [_NOTE]
    try:
        # What was a key of another kind becomes text, as in all JSON.
        values = json.loads(json.dumps(values, allow_nan=False))
        for section in OWNED:
            if values[section] is not None:
                lines += _dump(section, values[section])
    except (TypeError, ValueError, RecursionError):
        raise _unusable(
            name,
            f"{' or '.join(OWNED)} holds what the tool never writes",
            hint="Delete that: inv models.scan --write and inv models.compare --write write it again.",
        ) from None
    text = newline.join([*lines, ""])
    gap = b"" if not head or head.endswith((b"\n", b"\r")) or head == _BOM else newline.encode()
    spliced = head + gap + text.encode()
    _check(name, above, spliced, values)
    return spliced


def _check(name: str, above: Mapping[str, Any], spliced: bytes, values: Mapping[str, Any]) -> None:
    """Make sure that what was put together reads as both of its parts."""
    expected = {**above, **{section: value for section, value in values.items() if value is not None}}
    try:
        same = read_value(spliced.decode("utf-8")) == expected
    except NotYaml:
        same = False
    if not same:
        raise _unusable(
            name,
            "its upper part does not end where sections can begin",
            hint="Let it end with a whole line, and without ... or a block that keeps empty lines (|+).",
        )


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
        OSError: it cannot be read or written.
    """
    rewrite(path, splice(path.read_bytes(), sections, str(path)))
