"""What ``inv models.check-workflow``, ``remove``, ``prune`` and ``cost`` do."""

from dataclasses import asdict
from math import ceil
from pathlib import Path

from backend.errors import ConfigError, InvalidArgument, SourceMissing
from backend.settings import Settings, listed
from ops.commands.apply_plan import carry_out, look_there, tell_done
from ops.commands.workflow_entries import add_from_workflow
from ops.console.console import Cell, Console, opened
from ops.console.model_tables import show_plan
from ops.files.amounts import total
from ops.models.inventory import Inventory
from ops.models.volume_layout import canonical_path, check_held_path, spellings, volume_path
from ops.registry.add_model import Entry
from ops.registry.load import load
from ops.runpod.pricing import SMALLEST_VOLUME_GB, volume_usd_per_month
from ops.stores.remote_volume import open_remote
from ops.sync.plan import compare
from ops.workflows.requirements import Needs, may_mean, needs, texts


def check_workflow(
    workflow: str,
    *,
    registry: str = "models-registry.yaml",
    remote: bool = False,
    add: bool = False,
    yes: bool = False,
    transport: str = "job",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Say which models and nodes a ComfyUI workflow needs, and which registry entry provides each.

    Args:
        workflow: its file, as ComfyUI exports it, in either form.
        registry: the registry file.
        remote: also look whether the volume has them.
        add: add the models whose address and folder the workflow carries to the registry's optional models.
        yes: do not ask before they are added.
        transport: ``job`` or ``s3``.
        json: give JSON.
        settings: by default those of the environment.

    Raises:
        SourceMissing: a model is neither in the registry nor on the volume.
    """
    settings, console = opened(settings, json=json)
    there: Inventory | None = None
    if remote:
        with open_remote(settings, transport, say=console.say) as volume:
            there = look_there(volume.store, console)
    content, known = _read(workflow), load(Path(registry))
    found = needs(content, known, there)
    added: tuple[Entry, ...] = ()
    if add:
        added = add_from_workflow(found.unprovided, known, settings, console, yes=yes)
        if added:
            found = needs(content, load(Path(registry)), there)
    console.data(
        {
            "models": [
                {
                    "name": model.name,
                    "category": model.category,
                    "node": model.node,
                    "provided_by": model.provided_by,
                    "on_remote": model.there,
                    "address": model.address or None,
                    "sha256": model.sha256,
                }
                for model in found.models
            ],
            "nodes": [{"name": node.name, "count": node.count, "pack": node.pack} for node in found.nodes],
            "added": [asdict(entry) for entry in added],
        }
    )
    _show_needs(console, found, there is not None)
    lacking = [model for model in found.unprovided if model.there is None]
    if lacking:
        raise SourceMissing(
            f"Nothing provides {', '.join(model.name for model in lacking)}.",
            hint="Add them to the registry: " + "; ".join(model.how_to_add for model in lacking),
        )
    return 0


def remove(
    paths: str,
    *,
    yes: bool = False,
    transport: str = "job",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Delete files from the volume, with their records.

    Args:
        paths: from the volume root or as in a registry, with commas between, for example
            ``models/loras/x.safetensors``.
        yes: do not ask.
        transport: ``job`` or ``s3``.
        json: give JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    named = [check_held_path(volume_path(path)) for path in listed(paths)]
    if not named:
        raise InvalidArgument("No file was given.", hint="For example: models/loras/x.safetensors")
    if not yes and not console.ask(f"Delete {', '.join(named)} from the volume?"):
        return 0
    with open_remote(settings, transport, say=console.say) as volume:
        removal = volume.store.remove(named)
        # To ComfyUI it is the same file under an alias of its folder, or with its letters decomposed.
        others = [spelling for path in removal.missing for spelling in spellings(path)[1:]]
        respelled = volume.store.remove(others).removed if others else ()
    removed = [*removal.removed, *respelled]
    done = {canonical_path(path) for path in respelled}
    missing = [path for path in removal.missing if canonical_path(path) not in done]
    console.data({"removed": removed, "missing": missing})
    for path in removed:
        console.say(f"Deleted {path}.")
    for path in missing:
        console.say(f"{path} not found.")
    return 0


def prune(
    *,
    registry: str = "models-registry.yaml",
    workflows: str = "",
    dry_run: bool = False,
    yes: bool = False,
    transport: str = "job",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Delete model files from the volume that the registry and the given workflows do not use.

    Args:
        registry: the registry file.
        workflows: files of workflows, with commas between; every file stays that they may mean.
        dry_run: show the plan and stop.
        yes: do not ask.
        transport: ``job`` or ``s3``.
        json: give JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    wanted = load(Path(registry))
    said = [text for name in listed(workflows) for text in _texts(name)]
    with open_remote(settings, transport, say=console.say) as volume:
        there = look_there(volume.store, console)
        plan = compare(wanted, there, prune=True)
        extra = {action.path for action in plan.changes if action.kind == "remove"}
        plan = plan.only({path for path in extra if not may_mean(path, said)})
        if plan.changes:
            show_plan(console, plan)
        else:
            console.say("Nothing to delete: every model file on the volume is referred to.")
        if plan.changes and not dry_run and (yes or console.ask("Delete these files?")):
            carry_out(plan, volume, console)
        else:
            tell_done(plan, [], console)
    return 0


def cost(
    *,
    registry: str = "models-registry.yaml",
    optional: bool = False,
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Say what it costs to store each model, by the month, and what the volume that holds them costs.

    RunPod asks less for what is above 1 TB, so each model pays its share of what all of them cost.

    Args:
        registry: the registry file.
        optional: also the optional models.
        json: give JSON.
        settings: not needed; every command takes it.
    """
    _, console = opened(settings, json=json)
    wanted = load(Path(registry))
    models = wanted.models if optional else wanted.required
    rows: list[list[Cell]] = []
    sizes = [sum(file.size_bytes or 0 for file in model.files) for model in models]
    stored, unknown = sum(sizes), sum(file.size_bytes is None for model in models for file in model.files)
    usd_per_byte = _monthly(stored) / stored if stored else 0.0
    size_gb = max(SMALLEST_VOLUME_GB, ceil(stored / 1e9))
    volume_usd = volume_usd_per_month(size_gb)
    values: list[dict[str, object]] = []
    for model, known in zip(models, sizes, strict=True):
        unsized = sum(file.size_bytes is None for file in model.files)
        usd = known * usd_per_byte
        rows.append([model.name, total(known, unsized), f"${usd:.2f}" if known else "?"])
        values.append(
            {
                "name": model.name,
                "size_bytes": known,
                "unknown_sizes": unsized,
                "dollars_per_month": round(usd, 4),
            }
        )
    console.data(
        {
            "models": values,
            "size_bytes": stored,
            "unknown_sizes": unknown,
            "dollars_per_month": round(_monthly(stored), 4),
            "smallest_volume_gb": size_gb,
            "smallest_volume_dollars_per_month": round(volume_usd, 4),
        }
    )
    rows.append(["the volume", f"{size_gb} GB", f"${volume_usd:.2f}"])
    console.table(["model", "size>", "a month>"], rows)
    more = " or more" if unknown else ""
    console.say(
        f"{total(stored, unknown)}: ${_monthly(stored):.2f} a month{more}, whether a worker runs or not."
    )
    console.say(
        f"RunPod bills the whole volume: one of {size_gb} GB, which just holds them, costs "
        f"${volume_usd:.2f} a month."
    )
    if unknown:
        console.say("To get the missing sizes from the sources: inv models.lock")
    return 0


def _monthly(size_bytes: int) -> float:
    return volume_usd_per_month(size_bytes / 1e9)


def _texts(name: str) -> list[str]:
    """Return the texts in the workflow of a file."""
    try:
        return texts(_read(name))
    except InvalidArgument as error:
        raise InvalidArgument(f"{name}: {error.message}", hint=error.hint) from error


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The workflow {name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The workflow {name} is not text in UTF-8.") from error


def _show_needs(console: Console, found: Needs, looked: bool) -> None:
    """Show what a workflow needs."""
    rows: list[list[Cell]] = [
        [
            model.category or "",
            model.name,
            model.node,
            model.provided_by or "nothing in the registry",
            (model.there or "missing") if looked else "",
        ]
        for model in found.models
    ]
    console.table(["category", "model", "needed by", "provided by", "on the volume" if looked else ""], rows)
    nodes: list[list[Cell]] = [[node.name, str(node.count), node.pack or ""] for node in found.nodes]
    console.table(["node", "times>", "pack"], nodes)
