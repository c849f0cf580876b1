"""The lock: what each source of a registry resolved to. Reading and writing only; no network.

::

    hf:openai/whisper-tiny:config.json:
      revision: "169d4a43…"
      size_bytes: 1983
      sha256: "ffdccec4…"

Its keys are sources as the registry writes them, sorted. It is written by
``inv models.lock`` and checked in.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from backend.errors import RegistryError
from ops.files.atomic import rewrite
from ops.files.yaml_positions import Lines, NotYaml, read
from ops.models.record import SHA256

_REVISION: Final = re.compile(r"[0-9a-f]{40}\Z")
_HEADER: Final = """\
# What each source in the registry resolved to. Written by: inv models.lock
# Check this file in; a source that moves shows up as a change here.
"""


@dataclass(frozen=True, slots=True)
class Locked:
    """What a source was when it was resolved: its commit (Hugging Face only), size and hash."""

    revision: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None


def read_lock(path: Path) -> tuple[dict[str, Locked], list[str]]:
    """Read a lock file.

    Returns:
        Source → what it resolved to, and the problems, each ``file:line: sentence``. Without a file,
        nothing is locked.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{path.name}:1: it cannot be read: {error}."]
    return parse_lock(text, path.name)


def parse_lock(text: str, name: str) -> tuple[dict[str, Locked], list[str]]:
    """Read a lock's text; see `read_lock`. Pure."""
    try:
        document = read(text)
    except NotYaml as error:
        return {}, [f"{name}:{error.line}: it is not YAML: {error.sentence}."]
    value = document.value if document.value is not None else {}
    if not isinstance(value, dict):
        return {}, [f"{name}:1: it is not a mapping of sources."]
    locked: dict[str, Locked] = {}
    problems: list[str] = [f"{name}:{line}: {sentence}." for line, sentence in document.problems]
    for source, entry in value.items():
        try:
            locked[str(source)] = _entry(entry)
        except ValueError as error:
            problems.append(f"{name}:{_line(document, source)}: {source}: {error}.")
    return locked, problems


def _entry(value: Any) -> Locked:
    """Read one entry, or say what is wrong with it."""
    if not isinstance(value, dict) or not value.keys() <= {"revision", "size_bytes", "sha256"}:
        raise ValueError("it must have revision, size_bytes and sha256 only")
    revision, size, sha256 = value.get("revision"), value.get("size_bytes"), value.get("sha256")
    if revision is not None and not (isinstance(revision, str) and _REVISION.match(revision)):
        raise ValueError("revision must be 40 hex digits, in quotes")
    if size is not None and (type(size) is not int or size < 0):
        raise ValueError("size_bytes must be a number from 0 up")
    if sha256 is not None and not (isinstance(sha256, str) and SHA256.match(sha256)):
        raise ValueError("sha256 must be 64 hex digits, in quotes")
    return Locked(revision, size, sha256)


def _line(document: Lines, source: object) -> int:
    return document.line((str(source),))


def write_lock(path: Path, locked: Mapping[str, Locked]) -> None:
    """Write a lock file: sorted, so that a change shows as the lines that changed.

    Raises:
        RegistryError: it would not read as what was written; the file stays as it was.
    """
    text = render_lock(locked)
    again, problems = parse_lock(text, path.name)
    if problems or again != dict(locked):
        raise RegistryError(
            str(path), problems or ["it cannot hold these sources; nothing was written to it"]
        )
    rewrite(path, text.encode())


def render_lock(locked: Mapping[str, Locked]) -> str:
    """Write a lock's text. Pure."""
    content = {
        _Quoted(source): {
            name: _Quoted(value) if isinstance(value, str) else value
            for name, value in asdict(entry).items()
            if value is not None
        }
        for source, entry in sorted(locked.items())
    }
    if not content:
        return _HEADER
    return _HEADER + yaml.dump(
        content,
        Dumper=_Dumper,
        allow_unicode=True,
        sort_keys=False,
        width=_NO_FOLDING,
        default_flow_style=False,
    )


class _Quoted(str):
    """A text that is written in quotes, so that no reader takes it for a number."""


class _Dumper(yaml.SafeDumper):
    """Writes the lock."""


_Dumper.add_representer(
    _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)
_NO_FOLDING: Final = 1_000_000
