"""Add the models that a workflow lists with their addresses to the registry."""

from collections.abc import Sequence
from dataclasses import replace

from backend.errors import ComfyformError
from backend.flow.http_driver import Http
from backend.settings import Settings
from ops.console.console import Console
from ops.files.amounts import amount
from ops.local.hash_cache import hash_cache
from ops.local.this_machine import Here, hashes_of
from ops.models.source_addresses import read_source
from ops.registry.add_model import Entry
from ops.registry.load import Registry
from ops.registry.write_entries import free_name, write_entries
from ops.sources.origins import Sources
from ops.sync.new_entry import new_entry
from ops.sync.resolve_lock import Resolver
from ops.workflows.requirements import NeededModel


def add_from_workflow(
    models: Sequence[NeededModel], registry: Registry, settings: Settings, console: Console, *, yes: bool
) -> tuple[Entry, ...]:
    """Show the entries of models whose address and folder the workflow carries, ask, and write them.

    A sha256 that the workflow carries is pinned. An entry that cannot be made is only a warning.

    Args:
        models: what the registry does not provide.
        registry: the registry as it is.
        settings: addresses and keys of the services.
        console: where to show and ask.
        yes: do not ask.

    Returns:
        What was written.
    """
    proposed: list[Entry] = []
    names = {model.name for model in registry.models}
    with Http() as http, hash_cache(hashes_of(settings)) as hashes, console.progress() as tell:
        resolver = Resolver(
            sources=Sources.from_settings(settings, http),
            locate=Here(settings).locate,
            hashes=hashes,
            on_progress=tell,
        )
        for model in models:
            # A workflow comes from anywhere, so it may not name files of this machine.
            if model.category is None or not model.address.startswith(("https://", "http://")):
                continue
            try:
                entry, terms = new_entry(
                    read_source(model.address),
                    resolver,
                    path=f"{model.category}/{model.name}",
                    sha256=model.sha256,
                )
            except ComfyformError as error:
                console.warn(f"{model.name}: {error}")
                continue
            if terms.warning:
                console.warn(terms.warning)
            entry = replace(entry, name=free_name(entry.name, names))
            names.add(entry.name)
            proposed.append(entry)
    console.table(
        ["model", "file", "size>", "source", "license", "sha256"],
        [
            [
                entry.name,
                entry.path,
                amount(entry.size_bytes),
                entry.source,
                f"{entry.license}{', gated' if entry.gated else ''}",
                (entry.sha256 or "unknown")[:12],
            ]
            for entry in proposed
        ],
    )
    if not proposed or not (yes or console.ask("Write these entries?")):
        return ()
    write_entries(registry.path, "optional", *proposed)
    console.say(f"{registry.path}: {len(proposed)} models added.")
    return tuple(proposed)
