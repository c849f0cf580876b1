"""Add a model to a registry file as text, so that all that people wrote stays as it is. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import yaml

from backend.errors import InvalidArgument
from ops.splice import split

Section = Literal["required", "optional"]
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/@+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of one file, to be added."""

    name: str
    path: str
    source: str
    size_bytes: int | None
    sha256: str | None
    license: str
    gated: bool
    used_by: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Write it as the registry does, indented under its section."""
        lines = [f"  {self.name}:"]
        if self.used_by:
            lines.append(f"    used_by: [{', '.join(self.used_by)}]")
        lines.append(f"    license: {_scalar(self.license)}")
        if self.gated:
            lines.append("    gated: true")
        lines += [
            "    files:",
            f"      - path: {_scalar(self.path)}",
            f"        source: {_scalar(self.source)}",
        ]
        if self.size_bytes is not None:
            lines.append(f"        size_bytes: {self.size_bytes}")
        if self.sha256 is not None:
            lines.append(f'        sha256: "{self.sha256}"')
        return lines


def _scalar(text: str) -> str:
    """Write a text without quotes where no reader could take it for anything else."""
    plain = text[:1].isalpha() and all(char in _PLAIN or (char == ":" and i) for i, char in enumerate(text))
    known = text.lower() in {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
    return text if plain and not known and not text.endswith(":") else json.dumps(text, ensure_ascii=False)


def add(content: bytes, section: Section, entry: Entry) -> bytes:
    """Give the file with a model added at the end of a section.

    Raises:
        InvalidArgument: a model of that name is there.
        RegistryError: the file cannot be read.
    """
    head, tail = split(content)
    text = head.decode("utf-8")
    newline = "\r\n" if "\r\n" in text else "\n"
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    sections = {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
    for values in sections.values():
        if isinstance(values, yaml.MappingNode) and any(key.value == entry.name for key, _ in values.value):
            raise InvalidArgument(f"The registry has a model {entry.name!r} already.", hint="Use --name.")
    block = newline.join([*entry.lines(), ""])
    at = sections.get(section)
    if isinstance(at, yaml.MappingNode) and not at.flow_style and at.value:
        lines = text.splitlines(keepends=True)
        end = _end_of(at, lines)
        before, after = "".join(lines[:end]), "".join(lines[end:])
        gap = "" if before.endswith(("\n", "\r")) else newline
        return (before + gap + newline + block + after).encode() + tail
    if at is not None and isinstance(node, yaml.MappingNode):
        # An empty section is written as {} or nothing: its line is replaced.
        lines = text.splitlines(keepends=True)
        line = at.start_mark.line
        key = next(key for key, _ in node.value if key.value == section)
        rest = "".join(lines[max(line, key.start_mark.line) + 1 :])
        return ("".join(lines[: key.start_mark.line]) + f"{section}:{newline}{block}{rest}").encode() + tail
    gap = "" if not text or text.endswith(("\n", "\r")) else newline
    blank = newline if text else ""
    return (text + gap + blank + f"{section}:{newline}{block}").encode() + tail


def _end_of(section: yaml.MappingNode, lines: Sequence[str]) -> int:
    """Find the line after a section's last one; comments below it at the left edge are not its own."""
    end = min(section.end_mark.line, len(lines))
    while end and not lines[end - 1].strip():
        end -= 1
    while end and lines[end - 1].startswith("#"):
        end -= 1
        while end and not lines[end - 1].strip():
            end -= 1
    return end
