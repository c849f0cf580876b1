"""The registry: which models are wanted, and where they come from. The only reader of the YAML.

::

    required:
      sonic:                                # a model's name
        used_by: [lipsync]
        license: CC-BY-NC-SA-4.0
        gated: false
        files:
          - path: sonic/unet.pth            # under the models root
            source: hf:LeonJoe13/Sonic:Sonic/unet.pth
            size_bytes: 6303636358          # optional, like sha256
            sha256: "2fb0b0b8…"             # always in quotes
    optional: {}
    local_scan: {}                          # these two belong to the tool, at the end
    runpod_status: {}

A lock beside it (``models-registry.lock.yaml``) says what each source resolved
to. `load` merges it in and gives frozen values; all problems of both files are
named at once, each with its line.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from backend.contract import WantedFile
from backend.errors import ConfigError, InvalidArgument, RegistryError
from ops.layout import Place, hf_cache_path, models_path
from ops.lock import Locked, read_lock
from ops.registry_shape import SECTIONS, FileShape, ModelShape, dotted, shape_problems, valid_models
from ops.source_names import HfSource, Source, parse
from ops.yaml_lines import KeyPath, Lines, read

_HF_PATH: Final = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>.+)\Z")
UNRESOLVED: Final = "0" * 40
"""Stands for a commit that is not known yet."""
OWNED_SECTIONS: Final = ("local_scan", "runpod_status")
"""What the tool writes at the end of the file; see ``ops.splice``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model.

    Attributes:
        path: as the registry has it: under the models root, or ``ORG/NAME/file`` for the cache.
        volume_path: where it goes, from the volume root; its name everywhere outside the registry.
        source: where it comes from, with its revision pinned when the lock knows one.
        size_bytes, sha256: what it must be, or None where neither registry nor lock says.
        place: ``models``, or ``hf_cache`` for what a node pack reads only from a Hugging Face cache.
    """

    path: str
    volume_path: str
    source: str
    size_bytes: int | None = None
    sha256: str | None = None
    place: Place = "models"

    def wanted(self) -> WantedFile:
        """Give the job contract's form."""
        return WantedFile(
            path=self.volume_path, source=self.source, size_bytes=self.size_bytes, sha256=self.sha256
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model: files that are used together.

    Attributes:
        used_by: verbs of the runtime client that need it.
        license: SPDX id where there is one, else the licence's name.
        gated: its source wants a licence accepted and a token.
        note: a sentence for people.
    """

    name: str
    used_by: tuple[str, ...] = ()
    license: str = "unknown"
    gated: bool = False
    note: str = ""
    required: bool = True
    files: tuple[ModelFile, ...] = ()

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all its files, or None while one of them is unknown."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The models that are wanted."""

    path: Path
    required: tuple[Model, ...] = ()
    optional: tuple[Model, ...] = ()

    @property
    def models(self) -> tuple[Model, ...]:
        """All of them, the required first."""
        return self.required + self.optional

    def files(self, required_only: bool = True) -> tuple[ModelFile, ...]:
        """Give the files in order, each path once."""
        return tuple(file for _, file in self.entries(required_only))

    def entries(self, required_only: bool = True) -> tuple[tuple[Model, ModelFile], ...]:
        """Give the files with their models in order, each path once."""
        found: dict[str, tuple[Model, ModelFile]] = {}
        for model in self.required if required_only else self.models:
            for file in model.files:
                found.setdefault(file.volume_path, (model, file))
        return tuple(found.values())


def lock_file(path: Path) -> Path:
    """Give the lock's place: beside the registry."""
    return path.with_name(f"{path.name.removesuffix('.yaml')}.lock.yaml")


def load(path: Path, *, lock: bool = True) -> Registry:
    """Read a registry, with its lock.

    Args:
        path: the YAML file.
        lock: merge in what the lock says. Without, only what is written in the registry counts, and a
            file of the cache whose revision is not pinned there gets `UNRESOLVED`.

    Raises:
        RegistryError: one or both files have problems; all of them, each with file and line.
        ConfigError: there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"There is no registry at {path}.", hint="Name one, for example models-registry.yaml."
        ) from None
    except OSError as error:
        raise ConfigError(f"The registry {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The registry {path} is not text in UTF-8: {error}.") from error
    locked, lock_problems = read_lock(lock_file(path)) if lock else ({}, [])
    registry, problems = parse_registry(text, path, locked, unresolved=None if lock else UNRESOLVED)
    if problems or lock_problems:
        raise RegistryError(str(path), problems + lock_problems)
    return registry


def parse_registry(
    text: str, path: Path, locked: Mapping[str, Locked], *, unresolved: str | None = None
) -> tuple[Registry, list[str]]:
    """Read a registry's text. Pure.

    Args:
        text: of the YAML file.
        path: its name, for the problems.
        locked: what its sources resolved to.
        unresolved: the commit to assume where one is needed and unknown; None makes that a problem.

    Returns:
        The registry, and its problems, each ``file:line: sentence``; with any, it is not complete.
    """
    try:
        document = read(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        return Registry(path=path), [f"{path.name}:{mark.line + 1 if mark else 1}: it is not YAML: {said}."]
    found = list(shape_problems(document))
    reader = _Reader(document, locked, unresolved, found)
    value = document.value if isinstance(document.value, dict) else {}
    models = {
        section: tuple(reader.models(section, valid_models(value.get(section)))) for section in SECTIONS
    }
    _same_place_twice(models, document, found)
    problems = [f"{path.name}:{line}: {sentence}." for line, sentence in sorted(set(found))]
    return Registry(path=path, **models), problems


@dataclass(frozen=True, slots=True)
class _Reader:
    """Makes values of a document's models; what is wrong with them is added to ``found``."""

    document: Lines
    locked: Mapping[str, Locked]
    unresolved: str | None
    found: list[tuple[int, str]]

    def models(self, section: str, shapes: Mapping[str, ModelShape]) -> Iterator[Model]:
        """Make the values of one section."""
        for name, shape in shapes.items():
            files: list[ModelFile] = []
            for index, entry in enumerate(shape.files):
                location: KeyPath = (section, name, "files", index)
                try:
                    files.append(self._file(entry))
                except InvalidArgument as error:
                    line = self.document.line((*location, "path"))
                    self.found.append((line, f"{dotted(location)}: {str(error).rstrip('.')}"))
            yield Model(
                name=name,
                used_by=tuple(shape.used_by),
                license=shape.license,
                gated=shape.gated,
                note=shape.note,
                required=section == "required",
                files=tuple(files),
            )

    def _file(self, shape: FileShape) -> ModelFile:
        """Make a file's value: what the registry pins holds, the lock fills in the rest."""
        source: Source = parse(shape.source)
        locked = self.locked.get(shape.source, Locked())
        if isinstance(source, HfSource) and locked.revision is not None:
            source = HfSource(source.repo, locked.revision, source.file)
        if shape.place == "models":
            volume_path = models_path(shape.path)
        else:
            match = _HF_PATH.match(shape.path)
            if match is None or not isinstance(source, HfSource) or source.repo != match["repo"]:
                raise InvalidArgument(
                    "A file of the cache needs path ORG/NAME/FILE and a source in that repository."
                )
            revision = source.revision or self.unresolved or "main"
            volume_path = hf_cache_path(match["repo"], revision, match["file"])
        return ModelFile(
            path=shape.path,
            volume_path=volume_path,
            source=str(source),
            size_bytes=shape.size_bytes if shape.size_bytes is not None else locked.size_bytes,
            sha256=shape.sha256 if shape.sha256 is not None else locked.sha256,
            place=shape.place,
        )


def _same_place_twice(
    models: Mapping[str, tuple[Model, ...]], document: Lines, found: list[tuple[int, str]]
) -> None:
    """Find two files for one place; the same file for two models is fine."""
    seen: dict[str, tuple[ModelFile, int]] = {}
    for section, entries in models.items():
        for model in entries:
            for index, file in enumerate(model.files):
                line = document.line((section, model.name, "files", index))
                key = file.volume_path.casefold()
                if key in seen and (seen[key][0].source, seen[key][0].sha256) != (file.source, file.sha256):
                    where = f"{section}.{model.name}.files[{index}]"
                    found.append(
                        (line, f"{where}: {file.path} is already another file, on line {seen[key][1]}")
                    )
                seen.setdefault(key, (file, line))
