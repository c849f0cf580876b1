"""What ``inv models.import`` does: write registry entries for the models of this machine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backend.errors import SourceMissing
from backend.flow.http_driver import Http
from backend.settings import Settings, listed
from ops.console.console import Cell, Console, opened
from ops.files.amounts import amount
from ops.files.model_content import safetensors_metadata
from ops.local.hash_cache import hash_cache
from ops.local.scan import Scan, hash_all, look_inside
from ops.local.this_machine import Here, hashes_of
from ops.registry.import_plan import (
    ImportPlan,
    Selection,
    hashes_of_sources,
    plan_import,
    repositories_of,
    select,
)
from ops.registry.load import Registry, load
from ops.registry.write_entries import write_entries
from ops.sources.find_by_hash import Findings, check_repository, repositories_in, search
from ops.sources.origins import Sources


def import_(
    *,
    hf_repos: str = "",
    models_dir: str = "",
    extra: str = "",
    required: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    registry: str = "models-registry.yaml",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Add this machine's models to the registry, with a source from which the volume can fetch each.

    Args:
        hf_repos: Hugging Face repositories whose files are compared, ORG/NAME, with commas between. Hugging
            Face has no lookup by hash; those that the registry or a file's own metadata names are asked too.
        models_dir: the models folder; by default that of the settings, else what ComfyUI says.
        extra: an ``extra_model_paths.yaml`` to read as well.
        required: add them to the required models, not the optional ones.
        dry_run: show the plan and stop.
        yes: do not ask.
        registry: the registry file; it is created when it does not exist.
        json: give JSON.
        settings: by default those of the environment.

    Raises:
        SourceMissing: some lookups failed; the files concerned have no entry, and the others have theirs.
    """
    settings, console = opened(settings, json=json)
    named = [check_repository(name) for name in listed(hf_repos)]
    file = Path(registry)
    known = load(file) if file.exists() else Registry(path=file)
    here = Here(settings, console.say, models_dir=models_dir, extra=extra)
    scanned = here.scan()
    selection = select(scanned.files, known)
    scanned, selection = _hashed(scanned, selection, settings, console)
    with Http() as http:
        found = _search(selection, known, named, Sources.from_settings(settings, http), console)
    plan = plan_import(selection, known, found.matches, found.unanswered)
    warnings = [*scanned.unreadable, *found.warnings]
    _show(console, plan, warnings)
    write = bool(plan.entries) and not dry_run and (yes or console.ask("Write these entries?"))
    if write:
        write_entries(file, "required" if required else "optional", *plan.entries)
        console.say(f"{file}: {len(plan.entries)} models added.")
        console.say(f"To bring them to the volume: inv models.sync{'' if required else ' --optional'}")
    console.data(plan.to_json() | {"written": write, "warnings": warnings})
    if plan.undecided:
        count = len(plan.undecided)
        raise SourceMissing(
            "\n  ".join([f"{count} {'file has' if count == 1 else 'files have'} no entry:", *plan.undecided]),
            hint="Run the same command again; it asks for these files only.",
        )
    return 0


def _hashed(
    scanned: Scan, selection: Selection, settings: Settings, console: Console
) -> tuple[Scan, Selection]:
    """Examine and hash the selected files; those with a problem are left out."""
    examined = look_inside(replace(scanned, files=selection.files))
    good = tuple(file for file in examined.files if file.problem is None)
    bad = tuple(f"{file.location}: {file.problem}" for file in examined.files if file.problem is not None)
    with hash_cache(hashes_of(settings)) as hashes, console.progress() as tell:
        hashed = hash_all(
            replace(scanned, files=good),
            hashes,
            on_bytes=lambda file, done: tell(
                {
                    "progress": "provision",
                    "path": file.path,
                    "done_bytes": done,
                    "total_bytes": file.size_bytes,
                }
            ),
        )
    return hashed, Selection(hashed.files, selection.present, (*selection.left_out, *bad))


def _search(
    selection: Selection, registry: Registry, named: Sequence[str], sources: Sources, console: Console
) -> Findings:
    """Search for the files whose bytes the registry cannot already fetch from somewhere."""
    fetchable = hashes_of_sources(registry)
    wanted = {file.sha256: file for file in selection.files if file.sha256 is not None}
    wanted = {sha256: file for sha256, file in wanted.items() if sha256 not in fetchable}
    if not wanted:
        return Findings({}, {}, ())
    texts = [text for file in wanted.values() for text in safetensors_metadata(Path(file.location))]
    others = repositories_of(registry) | repositories_in(texts)
    repositories = list(dict.fromkeys([*named, *sorted(others)]))
    console.say(
        f"{len(wanted)} files are compared with {len(repositories)} repositories of Hugging Face, and then "
        "looked up at CivitAI."
    )
    return search(list(wanted), repositories, sources)


def _show(console: Console, plan: ImportPlan, warnings: Sequence[str]) -> None:
    """Show the plan: a line for each new entry, then what has none."""
    rows: list[list[Cell]] = [
        [
            entry.name,
            entry.path,
            amount(entry.size_bytes),
            entry.source,
            f"{entry.license}{', gated' if entry.gated else ''}",
            ", ".join(proposal.same_bytes),
        ]
        for proposal in plan.proposals
        for entry in [proposal.entry]
    ]
    if rows:
        console.table(["model", "file", "size>", "source", "license", "same bytes as"], rows)
    local = [entry for entry in plan.entries if entry.source.startswith("local:")]
    size = amount(sum(entry.size_bytes or 0 for entry in plan.entries))
    console.say(
        f"{len(plan.entries)} new models, {size}; {len(plan.present)} files are in the registry already."
    )
    if local:
        only_here = amount(sum(entry.size_bytes or 0 for entry in local))
        console.say(
            f"{len(local)} of them, {only_here}, have no source but this machine. "
            "Hugging Face has no lookup by hash: name the repositories that may have them with --hf-repos."
        )
    for sentence in (*warnings, *plan.left_out, *plan.undecided):
        console.warn(sentence)
