"""The tools about models: what is on this machine, what is on the volume, and what that means."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backend.contract import FileRecord
from mcp_server.paging import page
from mcp_server.schemas import SPENDING, WAITING
from mcp_server.spending import Costs
from mcp_server.tool import Answer, Call, Schema, Tool, an_object

if TYPE_CHECKING:  # ops brings boto3 and yaml along
    from ops.models.inventory import Inventory

FILES_A_PAGE: Final = 200
ACTIONS_A_PAGE: Final = 50
PATHS_A_LIST: Final = 50
"""Of each list of a summary; how long it really is stands in ``counts``."""

_CURSOR: Final[dict[str, Schema]] = {
    "cursor": {
        "type": "string",
        "description": "next_cursor of the page before; leave out for the first page.",
    }
}
_NEXT: Final[dict[str, Schema]] = {
    "next_cursor": {"type": ["string", "null"], "description": "Pass it as cursor for the next page."}
}
_TRANSPORT: Final[dict[str, Schema]] = {
    "transport": {
        "type": "string",
        "enum": ["job", "s3"],
        "description": "How to look: through the ops endpoint's worker, or over S3, which costs nothing. "
        "By default S3 where its keys are set.",
    }
}
_NULLABLE_INTEGER: Final[Schema] = {"type": ["integer", "null"]}
_STRINGS: Final[Schema] = {"type": "array", "items": {"type": "string"}}
_LOOKING: Final[Schema] = {
    "type": "string",
    "enum": ["done", "running"],
    "description": "running: the volume is still being looked at; make the same call again.",
}

_FILE: Final = an_object(
    {
        "name": {"type": "string"},
        "path": {"type": "string"},
        "size_bytes": {"type": "integer"},
        "sha256": {"type": ["string", "null"]},
    },
    required=("name", "path", "size_bytes", "sha256"),
)
_CATEGORIES: Final[Schema] = {
    "type": "object",
    "description": "Category, such as checkpoints or loras → files.",
    "additionalProperties": {"type": "array", "items": _FILE},
}


async def _scan(call: Call) -> Answer:
    from ops.local.this_machine import Here

    scanned = await asyncio.to_thread(Here(call.studio.settings).known)
    files = [
        (
            file.category,
            {"name": file.name, "path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256},
        )
        for file in scanned.files
    ]
    roots = ", ".join(str(root) for root in scanned.roots)
    structured, text = _by_category(files, call.arguments.get("cursor"), f"in {roots}")
    warnings = [
        sentence.encode("utf-8", "replace").decode() for sentence in scanned.unreadable[:PATHS_A_LIST]
    ]
    return Answer({**structured, "warnings": warnings}, text)


async def _remote(call: Call) -> Answer:
    inventory = await _inventory(call)
    if inventory is None:
        empty = {"categories": {}, "files": 0, "total_bytes": 0, "next_cursor": None, "warnings": []}
        return Answer({"status": "running", **empty, "free_bytes": None}, _STILL)
    files = [_entry(record) for record in inventory.files.values()]
    structured, text = _by_category(files, call.arguments.get("cursor"), "on the volume")
    warnings = list(inventory.warnings[:PATHS_A_LIST])
    return Answer(
        {"status": "done", **structured, "free_bytes": inventory.free_bytes, "warnings": warnings}, text
    )


async def _compare(call: Call) -> Answer:
    from ops.console.model_tables import sums
    from ops.local.this_machine import Here
    from ops.registry.load import load
    from ops.sync.plan import compare

    studio = call.studio
    wanted = await asyncio.to_thread(load, studio.registry)
    remote = await _inventory(call)
    if remote is None:
        return Answer(
            {"status": "running", "summary": {}, "counts": {}, "actions": [], "next_cursor": None}, _STILL
        )
    here = await asyncio.to_thread(Here(studio.settings).inventory)
    plan = compare(wanted, remote, here, optional=call.arguments.get("optional", False))
    whole = plan.to_json()
    await asyncio.to_thread(_keep, studio.comparison, whole)
    actions = whole["actions"]
    if not call.arguments.get("all", False):
        changing = {action.path for action in plan.changes}
        actions = [action for action in actions if action["path"] in changing]
    shown, cursor = page(actions, call.arguments.get("cursor"), size=ACTIONS_A_PAGE)
    lists = {name: value for name, value in whole["summary"].items() if isinstance(value, list)}
    structured = {
        "status": "done",
        "summary": {**whole["summary"], **{name: value[:PATHS_A_LIST] for name, value in lists.items()}},
        "counts": {name: len(value) for name, value in lists.items()},
        "actions": shown,
        "next_cursor": cursor,
    }
    lines = [sums(plan), *(f"{a['kind']}: {a['path']} ({a['reason']})" for a in shown)]
    if plan.changes:
        lines.append("To do it: ./inv models.sync")
    return Answer(structured, "\n".join(lines))


async def _inventory(call: Call) -> "Inventory | None":
    """Look at the volume, after asking where that costs something."""
    from ops.stores.remote_volume import cheapest_transport

    studio = call.studio
    transport = call.arguments.get("transport") or cheapest_transport(studio.settings)
    if transport == "job" and not studio.look.known(transport):
        await call.agree(Costs.CPU, _question)
    return await studio.look.inventory(transport, call.patience_s, call.report)


async def _question() -> str:
    return f"Look at the volume? It costs {Costs.CPU.value}."


_STILL: Final = "The volume is still being looked at. Make the same call again."


def _entry(record: FileRecord) -> tuple[str, dict[str, Any]]:
    """A file on the volume with its category, as a scan would name it."""
    from ops.models.categories import canonical
    from ops.models.volume_layout import MODELS

    under = record["path"].removeprefix(f"{MODELS}/")
    if under == record["path"]:
        kind, name = "hf_cache", record["path"].rpartition("/")[2]
    else:
        kind, _, name = canonical(under).partition("/")
    return kind, {
        "name": name or kind,
        "path": record["path"],
        "size_bytes": record["size_bytes"],
        "sha256": record["sha256"],
    }


def _by_category(
    files: Sequence[tuple[str, Mapping[str, Any]]], cursor: str | None, where: str
) -> tuple[dict[str, Any], str]:
    """One page of files, sorted into categories, and the same in words."""
    ordered = sorted(files, key=lambda entry: (entry[0], entry[1]["path"]))
    shown, following = page(ordered, cursor, size=FILES_A_PAGE)
    categories: dict[str, list[Mapping[str, Any]]] = {}
    for kind, file in shown:
        categories.setdefault(kind, []).append(file)
    total = sum(file["size_bytes"] for _, file in files)
    structured = {
        "categories": categories,
        "files": len(files),
        "total_bytes": total,
        "next_cursor": following,
    }
    lines = [f"{len(files)} model files {where}, {total / 1e9:.2f} GB."]
    lines += [f"{kind}: {', '.join(file['name'] for file in kept)}" for kind, kept in categories.items()]
    if following is not None:
        lines.append(f"There are more: pass cursor {following!r}.")
    return structured, "\n".join(lines)


def _keep(place: Path, plan: Mapping[str, Any]) -> None:
    """Keep the whole comparison, for the resource."""
    from ops.files.atomic import write_whole

    write_whole(place, json.dumps(plan, indent=1).encode())


_LIST: Final[dict[str, Schema]] = {
    "categories": _CATEGORIES,
    "files": {"type": "integer"},
    "total_bytes": {"type": "integer"},
    "warnings": _STRINGS,
    **_NEXT,
}
_COUNTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "integer"}}

TOOLS: Final = (
    Tool(
        name="scanLocalModels",
        title="Models on this machine",
        description="List the model files of the local ComfyUI by category, with sizes and known hashes. "
        "Reads no file whole and costs nothing.",
        parameters=an_object(_CURSOR),
        output=an_object(_LIST, required=tuple(_LIST)),
        run=_scan,
        reads_only=True,
    ),
    Tool(
        name="listRemoteModels",
        title="Models on the volume",
        description="List the model files on the RunPod network volume by category, with sizes and recorded "
        "hashes.",
        parameters=an_object({**_CURSOR, **_TRANSPORT, **WAITING, **SPENDING}),
        output=an_object(
            {"status": _LOOKING, **_LIST, "free_bytes": _NULLABLE_INTEGER},
            required=("status", *_LIST, "free_bytes"),
        ),
        run=_remote,
        reads_only=True,
        costs=Costs.CPU,
    ),
    Tool(
        name="compareModels",
        title="Compare wanted, local and remote models",
        description="Compare the models that the registry wants with those on this machine and on the "
        "volume: what is missing, wrong or unneeded, why, and what ./inv models.sync would do. Changes "
        "nothing. Use it when a generation says that a model is missing.",
        parameters=an_object(
            {
                "optional": {"type": "boolean", "default": False, "description": "Want optional models too."},
                "all": {
                    "type": "boolean",
                    "default": False,
                    "description": "Also list the files that are right.",
                },
                **_CURSOR,
                **_TRANSPORT,
                **WAITING,
                **SPENDING,
            }
        ),
        output=an_object(
            {
                "status": _LOOKING,
                "summary": {"type": "object"},
                "counts": _COUNTS,
                "actions": {"type": "array", "items": {"type": "object"}},
                **_NEXT,
            },
            required=("status", "summary", "counts", "actions", "next_cursor"),
        ),
        run=_compare,
        reads_only=True,
        costs=Costs.CPU,
    ),
)
