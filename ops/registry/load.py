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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from backend.contract import WantedFile
from backend.errors import ConfigError, InvalidArgument, RegistryError
from ops.files.yaml_positions import KeyPath, Lines, NotYaml, read
from ops.models.source_url import HfSource, Source, parse
from ops.models.volume_layout import (
    MODELS,
    Place,
    canonical_path,
    check_wanted_path,
    hf_cache_path,
    models_path,
)
from ops.registry.lockfile import Locked, read_lock
from ops.registry.schema import SECTIONS, FileShape, ModelShape, dotted, shape_problems, valid_models

UNRESOLVED: Final = "0" * 40
"""Stands for a commit that is not known yet."""
OWNED_SECTIONS: Final = ("local_scan", "runpod_status")
"""What the tool writes at the end of the file; see ``ops.registry.owned_sections``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model.

    Attributes:
        path: as the registry has it: under the models root, or ``ORG/NAME/file`` for the cache.
        volume_path: where it goes, from the volume root; its name everywhere outside the registry.
        source: where it comes from, with its revision pinned when the lock knows one.
        size_bytes, sha256: what it must be, or None where neither registry nor lock says.
        place: ``models``, or ``hf_cache`` for what a node pack reads only from a Hugging Face cache.
        allow_pickle: use it although its pickled code goes beyond what weights need.
    """

    path: str
    volume_path: str
    source: str
    size_bytes: int | None = None
    sha256: str | None = None
    place: Place = "models"
    allow_pickle: bool = False

    @property
    def key(self) -> str:
        """The one name of its place, over all aliases of its folder and all forms of a letter."""
        return canonical_path(self.volume_path)

    def wanted(self) -> WantedFile:
        """Return the job contract's form."""
        wanted = WantedFile(
            path=self.volume_path, source=self.source, size_bytes=self.size_bytes, sha256=self.sha256
        )
        if self.allow_pickle:
            wanted["allow_pickle"] = True
        return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model: files that are used together.

    Attributes:
        used_by: verbs of the runtime client that need it.
        license: SPDX id where there is one, else the license's name.
        gated: the source requires an accepted license and a token.
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
        """Return the files in order, each place once."""
        return tuple(file for _, file in self.entries(required_only))

    def entries(self, required_only: bool = True) -> tuple[tuple[Model, ModelFile], ...]:
        """Return the files with their models in order, each place once, under any alias of its folder."""
        found: dict[str, tuple[Model, ModelFile]] = {}
        for model in self.required if required_only else self.models:
            for file in model.files:
                found.setdefault(file.key, (model, file))
        return tuple(found.values())


def lock_file(path: Path) -> Path:
    """Return the lock's place: beside the registry."""
    return path.with_name(f"{path.name.removesuffix('.yaml')}.lock.yaml")


def load(path: Path, *, lock: bool = True) -> Registry:
    """Read a registry, with its lock.

    Args:
        path: the YAML file.
        lock: merge in what the lock says. Without, only what is written in the registry counts, and a
            file of the cache whose revision is not pinned there gets `UNRESOLVED`.

    Raises:
        RegistryError: one or both files have problems; all of them, each with file and line.
        ConfigError: the file does not exist.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"Registry {path} not found.", hint="Pass the path of one, for example models-registry.yaml."
        ) from None
    except OSError as error:
        raise ConfigError(f"The registry {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"The registry {path} is not text in UTF-8: see line {line}.",
            hint="Save it as UTF-8; PowerShell's > writes UTF-16.",
        ) from error
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
    except NotYaml as error:
        return Registry(path=path), [f"{path.name}:{error.line}: it is not YAML: {error.sentence}."]
    found = list(shape_problems(document))
    reader = _Reader(document, locked, unresolved, found, [])
    value = document.value if isinstance(document.value, dict) else {}
    models = {
        section: tuple(reader.models(section, valid_models(value.get(section)))) for section in SECTIONS
    }
    _same_name_twice(models, document, found)
    _same_place_twice(reader.places, document, found)
    problems = [f"{path.name}:{line}: {sentence}." for line, sentence in sorted(set(found))]
    return Registry(path=path, **models), problems


@dataclass(frozen=True, slots=True)
class _Reader:
    """Makes values of a document's models; what is wrong with them is added to ``found``.

    Attributes:
        places: every file that was made, with where it stands in the document.
    """

    document: Lines
    locked: Mapping[str, Locked]
    unresolved: str | None
    found: list[tuple[int, str]]
    places: list[tuple[KeyPath, ModelFile]]

    def models(self, section: str, shapes: Mapping[str, ModelShape]) -> Iterator[Model]:
        """Make the values of one section."""
        for name, shape in shapes.items():
            files: list[ModelFile] = []
            for index, entry in enumerate(shape.files):
                location: KeyPath = (section, name, "files", index)
                try:
                    files.append(self._file(entry))
                    self.places.append((location, files[-1]))
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
        if isinstance(source, HfSource) and locked.revision is not None and not source.pinned:
            source = HfSource(source.repo, locked.revision, source.file)
        if shape.place == "models":
            if shape.path.startswith(f"{MODELS}/"):
                raise InvalidArgument(
                    f"{shape.path} begins with the models root, under which every path is.",
                    hint=f"Write {shape.path.removeprefix(f'{MODELS}/')}.",
                )
            volume_path = models_path(shape.path)
        else:
            if not isinstance(source, HfSource) or shape.path != f"{source.repo}/{source.file}":
                raise InvalidArgument(
                    "A file of the cache needs a path ORG/NAME/FILE, and that file of that repository as "
                    "its source."
                )
            volume_path = hf_cache_path(
                source.repo, source.revision or self.unresolved or "main", source.file
            )
        return ModelFile(
            path=shape.path,
            volume_path=check_wanted_path(volume_path),
            source=str(source),
            size_bytes=shape.size_bytes if shape.size_bytes is not None else locked.size_bytes,
            sha256=shape.sha256 if shape.sha256 is not None else locked.sha256,
            place=shape.place,
            allow_pickle=shape.allow_pickle,
        )


def _same_name_twice(
    models: Mapping[str, tuple[Model, ...]], document: Lines, found: list[tuple[int, str]]
) -> None:
    """Find a model that both sections have."""
    for name in {model.name for model in models["required"]} & {model.name for model in models["optional"]}:
        first, second = sorted(document.line((section, name)) for section in SECTIONS)
        found.append((second, f"{name} is already a model, on line {first}"))


def _same_place_twice(
    places: Sequence[tuple[KeyPath, ModelFile]], document: Lines, found: list[tuple[int, str]]
) -> None:
    """Find two files for one place, and one where another needs a folder.

    The same file for two models is fine. A folder has one name, whichever alias it goes by.
    """
    seen: dict[str, tuple[ModelFile, int]] = {}
    keys: list[tuple[str, int, KeyPath, ModelFile]] = []
    for location, file in places:
        line = document.line(location)
        key = file.key.casefold()
        keys.append((key, line, location, file))
        other, first = seen.setdefault(key, (file, line))
        if (other.source, other.size_bytes, other.sha256) != (file.source, file.size_bytes, file.sha256):
            found.append((line, f"{dotted(location)}: {file.path} is already another file, on line {first}"))
    for key, line, location, file in keys:
        for folder in PurePosixPath(key).parents:
            if str(folder) in seen:
                other, first = seen[str(folder)]
                where = f"{dotted(location)}: {file.path}"
                found.append((line, f"{where} cannot lie in {other.path}, a file, on line {first}"))
