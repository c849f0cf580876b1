"""What ``inv models.lock`` and ``inv models.add`` do: commands that look after the registry file itself."""

from pathlib import Path

from backend.drivers import Http
from backend.errors import RegistryError, SourceMissing
from backend.settings import Settings
from ops.console import Console
from ops.lock import read_lock, write_lock
from ops.registry import load, lock_file
from ops.resolve import resolve
from ops.sources import Sources
from ops.stores import local_models

REGISTRY = "models-registry.yaml"


def lock(*, registry: str = REGISTRY, json: bool = False, settings: Settings | None = None) -> int:
    """Resolve every source and write the lock beside the registry.

    What could be resolved is written also when something else could not.

    Raises:
        SourceMissing: some sources could not be resolved; all of them are named.
    """
    settings = settings or Settings.from_env()
    console = Console("json" if json else "human")
    wanted = load(Path(registry), lock=False)
    path = lock_file(wanted.path)
    before, problems = read_lock(path)
    if problems:
        raise RegistryError(str(path), problems, hint="Correct it, or delete it and run inv models.lock.")
    with Http() as http:
        found = resolve(
            wanted, before, Sources.from_settings(settings, http), local_models=local_models(settings)
        )
    write_lock(path, found.locked)
    console.data({"lock": str(path), "moved": list(found.moved), "failed": list(found.failed)})
    for sentence in found.moved:
        console.say(f"moved: {sentence}")
    gone = len(before.keys() - found.locked.keys())
    console.say(f"{path}: {len(found.locked)} sources, {len(found.moved)} moved, {gone} no longer named.")
    if found.failed:
        raise SourceMissing("\n".join([f"{len(found.failed)} sources are not resolved:", *found.failed]))
    return 0
