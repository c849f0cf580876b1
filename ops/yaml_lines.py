"""YAML with the line of every value, so that each problem of a file can be named where it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

KeyPath = tuple[str | int, ...]
"""Where a value is: ``("required", "sonic", "files", 0, "sha256")``."""

_MERGE: Final = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Lines:
    """A document's values, and where they stand.

    Attributes:
        value: dicts, lists and scalars.
        lines: key path → line, from 1, of the key or of the list's entry.
        unquoted: key paths of scalars that are written without quotes.
        problems: ``(line, sentence)`` of what YAML itself lets pass: keys that are there twice.
    """

    value: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    unquoted: frozenset[KeyPath] = frozenset()
    problems: tuple[tuple[int, str], ...] = ()

    def line(self, path: KeyPath) -> int:
        """Give the line of a value, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(text: str) -> Lines:
    """Parse a document.

    Raises:
        yaml.YAMLError: it is not YAML; the error has a mark.
    """
    loader = yaml.SafeLoader(text)
    try:
        try:
            node = loader.get_single_node()
        except RecursionError:
            raise yaml.YAMLError("it is nested too deeply") from None
        if node is None:
            return Lines(None)
        reader = _Reader()
        reader.visit(node, ())
        return Lines(
            loader.construct_document(node),
            reader.lines,
            frozenset(reader.unquoted),
            tuple(reader.problems),
        )
    finally:
        loader.dispose()


_MOST_VALUES: Final = 1_000_000
"""Far above what people write: aliases of aliases could otherwise fill the memory."""


class _Reader:
    """Walks a document's nodes and notes where things stand."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.unquoted: set[KeyPath] = set()
        self.problems: list[tuple[int, str]] = []
        self._within: set[int] = set()
        self._left = _MOST_VALUES

    def visit(self, node: yaml.Node, path: KeyPath) -> None:
        """Note a node and what is in it.

        Raises:
            yaml.YAMLError: there is more than anybody writes.
        """
        self._left -= 1
        if self._left < 0:
            raise yaml.YAMLError("its aliases make too much of it")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._within:
            return  # an alias to something around itself
        self._within.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, entry in enumerate(node.value):
                self.visit(entry, (*path, index))
        elif isinstance(node, yaml.ScalarNode) and node.style is None:
            self.unquoted.add(path)
        self._within.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> None:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                self.visit(value_node, path)
                continue
            key = str(getattr(key_node, "value", ""))
            if key in seen:
                self.problems.append((line, f"{key!r} is there twice; the first is on line {seen[key]}"))
            seen[key] = line
            self.lines[(*path, key)] = line
            self.visit(value_node, (*path, key))
