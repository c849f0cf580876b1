"""Models as tables: scans, plans, results and checks, for people."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.text import Text

from backend.contract import VerifiedFile
from ops.console.console import Cell, Console
from ops.files.amounts import amount, duration, total
from ops.local.scan import Scan
from ops.models.record import Standing
from ops.registry.load import Model
from ops.sync.apply import Done
from ops.sync.plan import Action, Plan

_STYLES: Final = {
    "keep": "green",
    "fetch": "cyan",
    "upload": "cyan",
    "replace": "yellow",
    "remove": "red",
    "unknown": "magenta",
    "move": "yellow",
    "kept": "green",
    "moved": "green",
    "fetched": "green",
    "removed": "green",
    "failed": "red",
}


def show_scan(console: Console, scanned: Scan) -> None:
    """Show what a scan found, by category."""
    rows: list[list[Cell]] = [
        [
            file.category,
            file.name,
            amount(file.size_bytes),
            file.sha256[:12] if file.sha256 else "",
            file.problem or file.architecture or "",
        ]
        for file in scanned.files
    ]
    console.table(["category", "name", "size>", "sha256", ""], rows)
    total = sum(file.size_bytes for file in scanned.files)
    console.say(f"{len(scanned.files)} models, {amount(total)}; {scanned.ignored} other files ignored.")
    for sentence in scanned.unreadable:
        console.warn(sentence)


def show_plan(console: Console, plan: Plan, *, here: bool = False) -> None:
    """Show a plan: one line a file with its reason, then the sums.

    Args:
        console: where.
        plan: what.
        here: also show how each file on this machine stands.
    """
    rows: list[list[Cell]] = [
        [
            Text(action.kind, style=_STYLES[action.kind]),
            action.model,
            action.path,
            *([_HERE.get(action.here, "")] if here else []),
            amount(action.size_bytes),
            action.reason,
        ]
        for action in plan.actions
    ]
    console.table(["action", "model", "file", *(["here"] if here else []), "size>", "reason"], rows)
    console.say(sums(plan))
    lacking = plan.summary.lacking_bytes
    if lacking:
        console.warn(
            f"The volume has {amount(plan.free_bytes)} free, {amount(lacking)} too little for this plan. "
            "Grow it, or remove models from it: inv models.prune shows which nothing refers to."
        )
    if pickled := plan.summary.pickled:
        first = ", ".join(pickled[:3]) + (", …" if len(pickled) > 3 else "")
        console.say(
            f"{len(pickled)} of these files may hold pickled code, which runs when it is loaded: {first}. "
            "Take them only from authors that you trust, and prefer .safetensors."
        )
    if plan.elsewhere:
        first = ", ".join(plan.elsewhere[:3]) + (", …" if len(plan.elsewhere) > 3 else "")
        console.say(
            f"{len(plan.elsewhere)} model files are in folders that no endpoint reads: {first}. "
            "Add a registry entry with the same file name, and the next sync moves the file."
        )
    unheld = sum(action.kind in _FETCHED and action.sha256 is None for action in plan.actions)
    if unheld:
        files = "1 file has" if unheld == 1 else f"{unheld} files have"
        console.say(f"{files} no sha256 to verify against. To get it from the sources: inv models.lock")


_FETCHED: Final = frozenset({"fetch", "replace"})
_HERE: Final[Mapping[Standing | None, str]] = {
    "right": "right",
    "absent": "no",
    "wrong_size": "wrong size",
    "wrong_hash": "wrong bytes",
    "unverified": "unverified",
}


def sums(plan: Plan) -> str:
    """Say a plan's sums in a sentence."""
    summary = plan.summary
    unknown = len(summary.unknown_size)
    more = " or more" if unknown else ""
    storage = f"storage ${summary.dollars_per_month:.2f} a month{more}"
    if not plan.changes:
        named = sum(bool(action.model) for action in plan.actions)
        extra = len(plan.actions) - named
        as_wanted = f"{named} files are up to date" if named else "the registry names no missing file"
        besides = f", {extra} on the volume are not in the registry" if extra else ""
        return f"Nothing to do: {as_wanted}{besides} ({storage})."
    counts: dict[str, int] = {}
    for action in plan.changes:
        counts[action.kind] = counts.get(action.kind, 0) + 1
    what = ", ".join(f"{count} to {_VERBS.get(kind, kind)}" for kind, count in sorted(counts.items()))
    going = summary.freed_bytes
    moved = total(summary.bytes, unknown) if summary.bytes or unknown else ""
    time = f"about {duration(summary.seconds)}{more}" if summary.bytes else ""
    freed = f"{amount(going)} less on the volume" if going else ""
    numbers = ", ".join(filter(None, (moved, time, freed)))
    return f"{what}: {numbers}; {storage}." if numbers else f"{what}; {storage}."


_VERBS: Final = {"unknown": "check where they lie"}


def show_terms(console: Console, plan: Plan) -> None:
    """Name the licenses of what is about to be fetched, and what is gated."""
    models: dict[str, Action] = {}
    for action in plan.changes:
        if action.model:
            models.setdefault(action.model, action)
    for name, action in sorted(models.items()):
        gate = ", gated: its license must be accepted at the source" if action.gated else ""
        console.say(f"{name}: license {action.license}{gate}.")


def show_done(console: Console, done: Sequence[Done]) -> None:
    """Show what became of a plan; nothing where nothing was done."""
    if not done:
        return
    rows: list[list[Cell]] = [
        [
            Text(entry.status, style=_STYLES.get(entry.status, "")),
            entry.action.path,
            amount(entry.fetched_bytes) if entry.fetched_bytes else "",
        ]
        for entry in done
    ]
    console.table(["result", "file", "fetched>"], rows)
    for entry in done:
        if entry.set_aside:
            console.say(
                f"The file that lay at {entry.action.path} was not one that this tool brought. It is kept at "
                f"{entry.set_aside}; to delete it: inv models.remove --paths {entry.set_aside}"
            )


def show_verified(console: Console, files: Sequence[VerifiedFile]) -> None:
    """Show the answer of verify."""
    rows: list[list[Cell]] = [
        [
            Text("ok", style="green") if file["ok"] else Text("WRONG", style="red"),
            file["path"],
            amount(file["size_bytes"]) if file["size_bytes"] is not None else "",
            file["reason"],
        ]
        for file in files
    ]
    console.table(["", "file", "size>", "reason"], rows)
    wrong = sum(not file["ok"] for file in files)
    if not files:
        console.say("The registry names no file to check.")
    elif wrong:
        console.say(f"{wrong} of {len(files)} files failed verification. To fix them: inv models.sync")
    else:
        console.say(f"All {len(files)} files passed verification.")


def show_models(console: Console, models: Sequence[Model]) -> None:
    """Show what a registry wants."""
    rows: list[list[Cell]] = [
        [
            model.name,
            "required" if model.required else "optional",
            ", ".join(model.used_by),
            model.license,
            "yes" if model.gated else "",
            str(len(model.files)),
            amount(model.size_bytes),
        ]
        for model in models
    ]
    console.table(["model", "", "used by", "license", "gated", "files>", "size>"], rows)
