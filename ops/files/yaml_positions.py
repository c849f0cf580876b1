"""YAML with the line of every value, so that each problem of a file can be named where it is.

The one reader of YAML from outside. It bounds what aliases and merge keys make
of a text, and every error of parsing and of making a value is a `NotYaml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import yaml

KeyPath = tuple[str | int, ...]
"""Where a value is: ``("required", "sonic", "files", 0, "sha256")``."""

_MERGE: Final = "tag:yaml.org,2002:merge"
_TEXT: Final = "tag:yaml.org,2002:str"


class NotYaml(Exception):
    """A text is not a YAML document.

    Attributes:
        line: from 1.
        sentence: what is wrong, without its full stop.
    """

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(f"line {line}: {sentence}")
        self.line = line
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Lines:
    """A document's values, and where they stand.

    Attributes:
        value: dicts, lists and scalars.
        lines: key path → line, from 1, of the key or of the list's entry.
        unquoted: key path → text, of scalars that are written without quotes.
        problems: ``(line, sentence)`` of what YAML itself lets pass: keys that are there twice, or are
            no text.
    """

    value: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    unquoted: Mapping[KeyPath, str] = field(default_factory=dict)
    problems: tuple[tuple[int, str], ...] = ()

    def line(self, path: KeyPath) -> int:
        """Return the line of a value, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def compose(text: str) -> yaml.Node | None:
    """Parse a document into nodes, whose marks count characters; None where it is empty.

    Raises:
        NotYaml: it is not YAML.
    """
    with _Loader(text) as loader:
        return loader.get_single_node()


def read(text: str) -> Lines:
    """Parse a document.

    Raises:
        NotYaml: it is not YAML, or expands to too many values.
    """
    with _Loader(text) as loader:
        node = loader.get_single_node()
        if node is None:
            return Lines(None)
        _check_size(node)
        reader = _Reader()
        reader.visit(node, ())
        value = loader.construct_document(node)
    return Lines(value, reader.lines, reader.unquoted, tuple(reader.problems))


def read_value(text: str) -> Any:
    """Parse a document whose lines are not needed; None where it is empty.

    Raises:
        NotYaml: it is not YAML, or expands to too many values.
    """
    with _Loader(text) as loader:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)


class _SafeLoader(yaml.SafeLoader):
    """PyYAML's safe loader, whose scalars that cannot be made are its own kind of error, with their line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a node's value."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            text = str(getattr(node, "value", ""))[:40]
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{text!r} is not a value of YAML's type {kind!r}", node.start_mark
            ) from error


class _Loader:
    """PyYAML's safe loader within a ``with``, whose several errors become the one of this module."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __enter__(self) -> _SafeLoader:
        try:
            self._loader = _SafeLoader(self._text)
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            raise NotYaml(line, f"it holds the character {chr(error.character)!r}") from None
        return self._loader

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loader.dispose()
        if isinstance(error, RecursionError):
            raise NotYaml(1, "it is nested too deeply") from None
        if isinstance(error, yaml.YAMLError):
            mark = getattr(error, "problem_mark", None)
            said = getattr(error, "problem", None) or str(error)
            raise NotYaml(mark.line + 1 if mark else 1, said) from None


_MOST_VALUES: Final = 1_000_000
"""Far above what people write: aliases of aliases could otherwise fill the memory."""


def _check_size(root: yaml.Node) -> None:
    """Refuse a document whose aliases and merge keys make too much of it, without following them.

    Raises:
        NotYaml: it is too much.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0  # an alias to something around itself adds nothing
            below = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = [part for entry in below for part in (entry if isinstance(entry, tuple) else (entry,))]
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    if size(root) > _MOST_VALUES:
        raise NotYaml(1, "its aliases expand to too many values")


class _Reader:
    """Walks a document's nodes and notes where things stand."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.unquoted: dict[KeyPath, str] = {}
        self.problems: list[tuple[int, str]] = []
        self._within: set[int] = set()

    def visit(self, node: yaml.Node, path: KeyPath) -> None:
        """Note a node and what is in it."""
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
            self.unquoted[path] = node.value
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
                self.problems.append((line, f"duplicate key {key!r}; the first is on line {seen[key]}"))
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != _TEXT:
                self.problems.append((line, f"{key!r} must be in quotes: YAML takes it for something else"))
            seen[key] = line
            self.lines[(*path, key)] = line
            self.visit(value_node, (*path, key))
