"""Names that come with a job: they never leave the folder they are meant for."""

from pathlib import Path

from backend.errors import InvalidArgument
from backend.validation.checks import path_problem


def place(root: Path, name: object, what: str) -> Path:
    """Return the path of a name from outside below a folder.

    Args:
        root: the folder that the name must stay in, after links.
        name: relative, POSIX, such as ``voices/odin.wav``.
        what: begins the sentence of the refusal, for example ``"The input's name"``.

    Raises:
        InvalidArgument: it is not text, not relative, goes up, is hidden, cannot be a file name
            everywhere, or a link on its way leads out of the folder.
    """
    problem = _problem(root, name)
    if problem or not isinstance(name, str):
        raise InvalidArgument(
            f"{what} {name!r} is refused: {problem}.",
            hint="Use a plain relative name such as voices/odin.wav.",
        )
    return root / name


def _problem(root: Path, name: object) -> str | None:
    """Say why a name is refused, as the end of a sentence, or None."""
    if not isinstance(name, str):
        return "it is not a text"
    if problem := path_problem(name):
        return problem
    if any(part.startswith(".") for part in name.split("/")):
        return "a part of it begins with a dot"
    if not (root / name).resolve().is_relative_to(root.resolve()):
        return "a link on its way leads out of its folder"
    return None
