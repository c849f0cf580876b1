"""What ``inv models.lock`` and ``inv models.add`` do: commands that look after the registry file itself."""

from dataclasses import asdict
from pathlib import Path, PurePosixPath

from backend.errors import InvalidArgument, RegistryError, SourceMissing
from backend.flow.http_driver import Http
from backend.settings import Settings, listed
from ops.console.console import opened
from ops.files.amounts import amount
from ops.files.model_content import ARCHIVE_ENDINGS
from ops.local.hash_cache import hash_cache
from ops.local.this_machine import Here, hashes_of
from ops.models.categories import may_hold_pickle
from ops.models.source_addresses import read_source
from ops.registry.load import load, lock_file
from ops.registry.lockfile import read_lock, write_lock
from ops.registry.schema import MODEL_USERS, check_name
from ops.registry.write_entries import write_entries
from ops.sources.origins import Sources
from ops.sync.new_entry import new_entry
from ops.sync.resolve_lock import Resolver


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
    with Http() as http, hash_cache(hashes_of(settings)) as hashes, console.progress() as tell:
        found = Resolver(
            sources=Sources.from_settings(settings, http),
            locate=Here(settings).locate,
            hashes=hashes,
            on_progress=tell,
        ).all(wanted, before)
    write_lock(path, found.locked)
    console.data(
        {
            "lock": str(path),
            "moved": list(found.moved),
            "overruled": list(found.overruled),
            "failed": list(found.failed),
        }
    )
    for sentence in found.moved:
        console.say(f"moved: {sentence}")
    for sentence in found.overruled:
        console.warn(sentence)
    gone = len(before.keys() - found.locked.keys())
    console.say(f"{path}: {_sources(len(found.locked))}, {len(found.moved)} moved, {gone} no longer named.")
    if found.failed:
        count = len(found.failed)
        said = f"{_sources(count)} {'is' if count == 1 else 'are'} not resolved:"
        raise SourceMissing("\n  ".join([said, *found.failed]))
    return 0


def _sources(count: int) -> str:
    return "1 source" if count == 1 else f"{count} sources"


def add(
    source: str,
    *,
    path: str = "",
    name: str = "",
    used_by: str = "",
    required: bool = False,
    allow_pickle: bool = False,
    registry: str = "models-registry.yaml",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Add a model to the registry, with the size, hash and license from its source.

    Args:
        source: ``hf:…``, ``url:…``, ``civitai:…`` or ``local:…``; or the address of a file or of a version's
            page as a browser shows it; or an AIR name.
        path: where it goes under the models root; by default where its source says that it belongs.
        name: of the model; by default made from the file's name.
        used_by: verbs that need it, with commas between.
        required: add it to the required models, not the optional ones.
        allow_pickle: use it although its pickled code goes beyond what weights need; written into its entry.
        registry: the registry file.
        json: give JSON.
        settings: by default those of the environment.

    Raises:
        InvalidArgument: something is not usable, or not known and not said.
        SourceMissing: the file does not exist.
    """
    settings, console = opened(settings, json=json)
    origin = read_source(source)
    verbs = listed(used_by)
    if unknown := [verb for verb in verbs if verb not in MODEL_USERS]:
        known = ", ".join(MODEL_USERS)
        raise InvalidArgument(
            f"--used-by must list verbs that need models ({known}), got {', '.join(unknown)}."
        )
    if name:
        try:
            check_name(name)
        except ValueError as error:
            raise InvalidArgument(f"{error}.") from None
    with Http() as http, hash_cache(hashes_of(settings)) as hashes, console.progress() as tell:
        resolver = Resolver(
            sources=Sources.from_settings(settings, http),
            locate=Here(settings).locate,
            hashes=hashes,
            on_progress=tell,
        )
        entry, terms = new_entry(
            origin, resolver, path=path, name=name, used_by=verbs, allow_pickle=allow_pickle
        )
    write_entries(Path(registry), "required" if required else "optional", entry)
    if terms.warning:
        console.say(f"warning: {terms.warning}")
    console.data(asdict(entry))
    gate = ", gated" if terms.gated else ""
    size = amount(entry.size_bytes)
    console.say(f"Added {entry.name}: {entry.path}, {size}, license {terms.license}{gate}.")
    if may_hold_pickle(entry.path):
        console.warn(
            f"{entry.path} may hold pickled code, which runs when a node loads it. "
            "Prefer a .safetensors file."
        )
    file = terms.filename or entry.path
    if PurePosixPath(file).suffix.lower() in ARCHIVE_ENDINGS:
        console.warn(
            f"{origin} is an archive, {file}. ComfyUI does not read archives: unpack it, "
            "and add the model file in it as a local: source."
        )
    if terms.note:
        console.say(terms.note)
    if terms.early_access:
        console.warn(
            f"{origin} is in early access until {terms.early_access}: CivitAI gives it to buyers only."
        )
    return 0
