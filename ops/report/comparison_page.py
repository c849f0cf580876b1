"""A comparison as one self-contained page: models by place, sizes as bars, sums on top."""

from typing import Final
from xml.etree.ElementTree import Element

from backend.validation.printable import visible
from ops.files.amounts import duration, total
from ops.models.categories import PICKLE_NOTE, may_hold_pickle
from ops.models.inventory import Inventory
from ops.report.html import Child, bar, chip, document, element, path_text, section, size, table, tile
from ops.sync.plan import Action, Plan

_WORDS: Final = {
    "right": ("right", "good"),
    "absent": ("missing", "bad"),
    "wrong_size": ("wrong size", "bad"),
    "wrong_hash": ("wrong bytes", "bad"),
    "unverified": ("unverified", "busy"),
    "extra": ("not wanted", "plain"),
}
_ACTIONS: Final = {
    "keep": "plain",
    "fetch": "busy",
    "upload": "busy",
    "replace": "bad",
    "remove": "bad",
    "unknown": "busy",
}


def compare_page(plan: Plan, remote: Inventory) -> str:
    """Draw a plan.

    Args:
        plan: the comparison.
        remote: what the volume holds, for its room.

    Returns:
        The page's HTML.
    """
    heading = element(
        "header",
        element("h1", "Models: wanted, here and on the volume"),
        element("p", _sentence(plan), class_="soft"),
    )
    return document("Models", heading, _sums(plan, remote), *_tables(plan))


def _sentence(plan: Plan) -> str:
    changes = len(plan.changes)
    if not changes:
        return "Everything is as the registry wants it."
    return f"{changes} of {len(plan.actions)} files need something; inv models.sync does it."


def _sums(plan: Plan, remote: Inventory) -> Element:
    """Show the plan's sums as tiles."""
    summary = plan.summary
    missing, extra = len(summary.missing_on_remote), len(summary.extra_on_remote)
    wrong = len(summary.wrong_size) + len(summary.wrong_hash)
    unknown = len(summary.unknown_size)
    more = " or more" if unknown else ""
    time = f"about {duration(summary.seconds)}{more}" if summary.bytes else ""
    free = f"{size(remote.free_bytes)} free" if remote.free_bytes is not None else ""
    return element(
        "dl",
        tile("Missing on the volume", str(missing), tone="bad" if missing else "good"),
        tile("Wrong", str(wrong), tone="bad" if wrong else "good"),
        tile("Unverified", str(len(summary.unverified))),
        tile("Not in the registry", str(extra)),
        tile("To move", total(summary.bytes, unknown), time),
        tile("On the volume", size(remote.used_bytes), free),
        tile("Storage", f"${summary.dollars_per_month:.2f}", f"a month{more}"),
        class_="tiles",
    )


def _tables(plan: Plan) -> list[Element]:
    """Show the files, those of required models first."""
    groups = (
        ("required", "Required", [action for action in plan.actions if action.model and action.required]),
        ("optional", "Optional", [action for action in plan.actions if action.model and not action.required]),
        ("extra", "On the volume only", [action for action in plan.actions if not action.model]),
    )
    largest = max((action.size_bytes or 0 for action in plan.actions), default=0) or 1
    return [
        section(name, heading, table(heading, _COLUMNS, [_row(action, largest) for action in actions]))
        for name, heading, actions in groups
        if actions
    ]


_COLUMNS: Final = ("Model", "Here", "On the volume", "Action", "Size", "Why")


def _row(action: Action, largest: int) -> tuple[Child, ...]:
    return (
        element("div", action.model or visible(action.path.rpartition("/")[2]), path_text(action.path)),
        _here(action.here),
        _standing(action.there),
        chip(action.kind, _ACTIONS[action.kind]),
        bar((action.size_bytes or 0) / largest, size(action.size_bytes)),
        f"{action.reason}; {PICKLE_NOTE}" if may_hold_pickle(action.path) else action.reason,
    )


def _here(standing: str | None) -> Child:
    """Show how the file on this machine stands; having none is not an error."""
    if standing is None:
        return "–"
    return chip("not here", "plain") if standing == "absent" else _standing(standing)


def _standing(standing: str) -> Element:
    word, tone = _WORDS[standing]
    return chip(word, tone)
