"""Where results go on this machine. Pure, but for looking whether a folder is there."""

from collections.abc import Sequence
from pathlib import Path

from backend.comfyui_answers import kind_of


def places(output_path: Path, filenames: Sequence[str]) -> list[Path]:
    """Give each file its place.

    Args:
        output_path: a folder that exists, where files keep their names; else the first file's own
            place, from which further ones get ``-2``, ``-3`` before the suffix.
        filenames: as ComfyUI named them.
    """
    if output_path.is_dir():
        return _distinct([output_path / Path(name).name for name in filenames])
    places = []
    for number, name in enumerate(filenames, start=1):
        suffix = output_path.suffix if _same_kind(output_path.name, name) else Path(name).suffix
        further = output_path.with_name(f"{output_path.stem}-{number}{suffix}")
        places.append(output_path if number == 1 else further)
    return places


def _same_kind(name: str, other: str) -> bool:
    return kind_of(name) == kind_of(other)


def _distinct(paths: list[Path]) -> list[Path]:
    """Tell files of the same name apart: nodes may save into folders of their own."""
    seen: dict[Path, int] = {}
    result = []
    for path in paths:
        count = seen[path] = seen.get(path, 0) + 1
        result.append(path if count == 1 else path.with_name(f"{path.stem}-{count}{path.suffix}"))
    return result


def suffix_warning(place: Path, filename: str) -> str | None:
    """Say when a file's suffix promises another format than it holds."""
    wanted, real = place.suffix.lower(), Path(filename).suffix.lower()
    if not wanted or wanted == real or {wanted, real} == {".jpg", ".jpeg"}:
        return None
    return f"{place.name} holds {real.removeprefix('.').upper()}, whatever its suffix says."
