"""What ``inv models.lock`` and ``inv models.add`` do: commands that look after the registry file itself."""

from pathlib import Path, PurePosixPath

from backend.contract import VERBS
from backend.drivers import Http
from backend.errors import InvalidArgument, RegistryError, SourceMissing
from backend.model_folders import ALIASES
from backend.settings import Settings
from ops.categories import CATEGORIES
from ops.console import amount, opened
from ops.disk import write_whole
from ops.layout import check_path
from ops.lock import read_lock, write_lock
from ops.registry import load, lock_file, parse_registry
from ops.registry_edit import Entry
from ops.registry_edit import add as add_entry
from ops.resolve import resolve, resolve_one
from ops.session import Here
from ops.source_names import CivitaiSource, HfSource, LocalSource, Source, UrlSource, parse
from ops.sources import Sources
from ops.terms import Terms, read_terms


def lock(
    *, registry: str = "models-registry.yaml", json: bool = False, settings: Settings | None = None
) -> int:
    """Resolve every source and write the lock beside the registry.

    What could be resolved is written also when something else could not.

    Raises:
        SourceMissing: some sources could not be resolved; all of them are named.
    """
    settings, console = opened(settings, json=json)
    wanted = load(Path(registry), lock=False)
    path = lock_file(wanted.path)
    before, problems = read_lock(path)
    if problems:
        raise RegistryError(str(path), problems, hint="Correct it, or delete it and run inv models.lock.")
    with Http() as http:
        found = resolve(
            wanted,
            before,
            Sources.from_settings(settings, http),
            locate=Here(settings).locate,
        )
    write_lock(path, found.locked)
    console.data({"lock": str(path), "moved": list(found.moved), "failed": list(found.failed)})
    for sentence in found.moved:
        console.say(f"moved: {sentence}")
    gone = len(before.keys() - found.locked.keys())
    console.say(f"{path}: {len(found.locked)} sources, {len(found.moved)} moved, {gone} no longer named.")
    if found.failed:
        raise SourceMissing("\n  ".join([f"{len(found.failed)} sources are not resolved:", *found.failed]))
    return 0


def add(
    source: str,
    *,
    path: str = "",
    name: str = "",
    used_by: str = "",
    required: bool = False,
    registry: str = "models-registry.yaml",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Add a model to the registry, with its size, hash and licence as its source tells them.

    Args:
        source: ``hf:…``, ``url:…``, ``civitai:…`` or ``local:…``.
        path: where it goes under the models root; by default where its source says that it belongs.
        name: of the model; by default made from the file's name.
        used_by: verbs that need it, with commas between.
        required: add it to the required models, not the optional ones.
        registry: the registry file.
        json: give JSON.
        settings: by default those of the environment.

    Raises:
        InvalidArgument: something is not usable, or not known and not said.
        SourceMissing: there is no such file.
    """
    settings, console = opened(settings, json=json)
    origin = parse(source)
    verbs = [verb.strip() for verb in used_by.split(",") if verb.strip()]
    # What talk needs is what tts and lipsync need.
    known = [verb for verb in VERBS if verb != "talk"]
    if unknown := [verb for verb in verbs if verb not in known]:
        raise InvalidArgument(f"{', '.join(unknown)} is not a verb with models: {', '.join(known)} are.")
    with Http() as http:
        sources = Sources.from_settings(settings, http)
        resolved = resolve_one(source, sources, locate=Here(settings).locate)
        terms = read_terms(origin, sources)
    place = check_path(path or _place(origin, terms))
    entry = Entry(
        name=name or _name(place),
        path=place,
        source=str(origin),
        size_bytes=resolved.size_bytes,
        sha256=resolved.sha256,
        license=terms.license,
        gated=terms.gated,
        used_by=verbs,
    )
    file = Path(registry)
    content = add_entry(
        file.read_bytes() if file.exists() else b"", "required" if required else "optional", entry
    )
    _, problems = parse_registry(content.decode("utf-8"), file, {}, unresolved="0" * 40)
    if problems:
        raise RegistryError(registry, problems, hint="Nothing was written.")
    write_whole(file, content)
    console.data({"name": entry.name, "path": place, "size_bytes": entry.size_bytes, "sha256": entry.sha256})
    gate = ", gated" if terms.gated else ""
    console.say(f"Added {entry.name}: {place}, {amount(entry.size_bytes)}, licence {terms.license}{gate}.")
    return 0


def _place(source: Source, terms: Terms) -> str:
    """Find out where a file belongs."""
    file = PurePosixPath(
        source.file
        if isinstance(source, HfSource)
        else source.path
        if isinstance(source, LocalSource)
        else source.url.partition("?")[0]
        if isinstance(source, UrlSource)
        else terms.filename or ""
    )
    if isinstance(source, LocalSource):
        return str(file)
    folder = terms.folder
    for part in file.parts[:-1]:
        if part in CATEGORIES or part in ALIASES:
            folder = ALIASES.get(part, part)
    if folder is None or not file.name or (isinstance(source, CivitaiSource) and not terms.filename):
        raise InvalidArgument(
            f"Where {source} belongs does not follow from it.",
            hint="Say it with --path, for example --path checkpoints/name.safetensors.",
        )
    return f"{folder}/{file.name}"


def _name(place: str) -> str:
    """Make a model's name from its file's."""
    stem = PurePosixPath(place).stem.lower()
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in stem)
    return kept.strip("._-") or "model"
