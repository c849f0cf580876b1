"""Write new models into a registry file: all of them, or nothing."""

from collections.abc import Container
from pathlib import Path, PurePosixPath

from backend.errors import InvalidArgument, RegistryError
from ops.files.atomic import rewrite
from ops.models.categories import canonical
from ops.models.volume_layout import composed
from ops.registry.add_model import Entry, Section, add
from ops.registry.load import UNRESOLVED, parse_registry


def write_entries(file: Path, section: Section, *entries: Entry) -> None:
    """Add models to a registry file. When it refuses, nothing is written.

    Args:
        file: the registry; it is created when it does not exist.
        section: where to.
        entries: what; their names and paths differ.

    Raises:
        InvalidArgument: the registry already has one of the names or paths.
        RegistryError: the file has problems, or would have.
    """
    before = file.read_bytes() if file.exists() else b""
    content = add(before, section, *entries, name=str(file))
    known, _ = parse_registry(before.decode("utf-8"), file, {}, unresolved=UNRESOLVED)
    paths = {composed(canonical(entry.path)) for entry in entries}
    for model, other in known.entries(required_only=False):
        if other.place == "models" and composed(canonical(other.path)) in paths:
            raise InvalidArgument(
                f"{other.path} is in the registry already, as {model.name}.",
                hint="Edit that entry, or name another place with --path.",
            )
    _, problems = parse_registry(content.decode("utf-8"), file, {}, unresolved=UNRESOLVED)
    if problems:
        raise RegistryError(str(file), problems, hint="Nothing was written.")
    rewrite(file, content)


def model_name(place: str) -> str:
    """Make a model's name from the path of its file."""
    stem = PurePosixPath(place).stem.lower()
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in stem)
    return kept.strip("._-") or "model"


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken: with a number after it where it must be."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
