"""Add models to a registry file as text, so that all that people wrote stays as it is. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import yaml

from backend.errors import InvalidArgument, RegistryError
from ops.files.yaml_positions import NotYaml, compose, read_value
from ops.registry.owned_sections import THE_REGISTRY, split

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
    note: str = ""
    allow_pickle: bool = False

    def lines(self, indent: int) -> list[str]:
        """Write it as the registry does, under its section.

        Args:
            indent: spaces before the section's models, and between a key and what is in it.
        """
        pad = " " * indent
        lines = [f"{pad}{_scalar(self.name)}:"]  # a name such as 1234 is text, too
        if self.used_by:
            lines.append(f"{2 * pad}used_by: [{', '.join(self.used_by)}]")
        lines.append(f"{2 * pad}license: {_scalar(self.license)}")
        if self.gated:
            lines.append(f"{2 * pad}gated: true")
        if self.note:
            lines.append(f"{2 * pad}note: {_scalar(self.note)}")
        lines += [
            f"{2 * pad}files:",
            f"{3 * pad}- path: {_scalar(self.path)}",
            f"{3 * pad}  source: {_scalar(self.source)}",
        ]
        if self.size_bytes is not None:
            lines.append(f"{3 * pad}  size_bytes: {self.size_bytes}")
        if self.sha256 is not None:
            lines.append(f'{3 * pad}  sha256: "{self.sha256}"')
        if self.allow_pickle:
            lines.append(f"{3 * pad}  allow_pickle: true")
        return lines


def _scalar(text: str) -> str:
    """Write a text without quotes where no reader could take it for anything else."""
    plain = text[:1].isalpha() and all(char in _PLAIN or (char == ":" and i) for i, char in enumerate(text))
    known = text.lower() in {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
    return text if plain and not known and not text.endswith(":") else json.dumps(text, ensure_ascii=False)


def add(content: bytes, section: Section, *entries: Entry, name: str = THE_REGISTRY) -> bytes:
    """Return the file with models added at the end of a section.

    Args:
        content: the file.
        section: where to.
        entries: what; each has a name of its own.
        name: how to call the file in an error.

    Raises:
        InvalidArgument: a model of one of these names is there.
        RegistryError: the file cannot be read, or its section is written in a way that nothing can be
            added to without rewriting it.
    """
    head, tail = split(content, name)
    text = head.decode("utf-8")
    try:
        before = read_value(text) or {}
    except NotYaml as error:
        raise RegistryError(
            name, [f"line {error.line}: {error.sentence}; nothing was written to it"]
        ) from error
    for entry in entries:
        if any(entry.name in models for models in before.values() if isinstance(models, dict)):
            raise InvalidArgument(f"The registry has a model {entry.name!r} already.", hint="Use --name.")
    added = _added(text, section, entries)
    models = read_value("\n".join(["_:", *_lines(entries, 2)]))["_"]
    try:
        same = read_value(added) == before | {section: (before.get(section) or {}) | models}
    except (NotYaml, TypeError):
        same = False
    if not same:
        raise RegistryError(
            name,
            [f"nothing can be added to its section {section} as it is written; nothing was written to it"],
            hint="Write that section's models on lines of their own below it, without braces or aliases.",
        )
    return added.encode() + tail


def _lines(entries: Sequence[Entry], indent: int) -> list[str]:
    """Write models with an empty line between two of them."""
    lines = [line for entry in entries for line in ("", *entry.lines(indent))]
    return lines[1:]


def _added(text: str, section: Section, entries: Sequence[Entry]) -> str:
    """Put models into a text, at the end of a section that is there, empty, or not yet there."""
    newline = "\r\n" if "\r\n" in text else "\n"
    node = compose(text)
    keys = node.value if isinstance(node, yaml.MappingNode) else []
    at = next((value for key, value in keys if key.value == section), None)
    if isinstance(at, yaml.MappingNode) and at.value and not at.flow_style:
        lines = text.splitlines(keepends=True)
        end = _end_of(at, text, lines)
        block = newline.join([*_lines(entries, at.value[0][0].start_mark.column), ""])
        above, below = "".join(lines[:end]), "".join(lines[end:])
        gap = "" if above.endswith(("\n", "\r")) else newline
        return above + gap + newline + block + below
    block = newline.join([*_lines(entries, 2), ""])
    if at is not None:
        # An empty section is {} or nothing; a comment after it stays.
        start, rest = text[: at.start_mark.index], text[at.end_mark.index :].splitlines(keepends=True)
        line = rest[0] if rest else newline
        line = line if line.strip() else line.lstrip(" \t")
        start = start if line.strip() else start.rstrip(" \t")
        gap = "" if line.endswith(("\n", "\r")) else newline
        return start + line + gap + block + "".join(rest[1:])
    gap = "" if not text or text.endswith(("\n", "\r")) else newline
    blank = newline if text else ""
    return text + gap + blank + f"{section}:{newline}{block}"


def _end_of(section: yaml.MappingNode, text: str, lines: Sequence[str]) -> int:
    """Find the line after a section's last one; comments below it at the left edge are not its own."""
    end = len(lines) if section.end_mark.index >= len(text) else section.end_mark.line
    while end and not lines[end - 1].strip():
        end -= 1
    while end and lines[end - 1].startswith("#"):
        end -= 1
        while end and not lines[end - 1].strip():
            end -= 1
    return end
