"""What ``inv models.*`` does: read, plan, show, apply. Each function is one command.

They take plain values and give an exit code; errors go up to whoever runs them.
"""

import sys
from pathlib import Path
from typing import Any, Final

from backend.settings import Settings, listed
from ops.commands.apply_plan import carry_out, look_there, tell_done
from ops.console.console import opened
from ops.console.model_tables import show_plan, show_scan, show_terms, show_verified
from ops.files.atomic import write_whole
from ops.local.hash_cache import hash_cache
from ops.local.scan import hash_all, look_inside
from ops.local.this_machine import Here, hashes_of
from ops.models.inventory import Inventory
from ops.registry.load import load
from ops.registry.owned_sections import write_sections
from ops.report.comparison_page import compare_page
from ops.stores.remote_volume import open_remote
from ops.sync.plan import compare as compare_plan

WRONG: Final = 5
"""Exit code when files are not right, the same as of a failed transfer."""


def scan(
    *,
    models_dir: str = "",
    extra: str = "",
    hash: bool = False,  # noqa: A002 - the option's name
    write: bool = False,
    registry: str = "models-registry.yaml",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """List the models of this machine.

    Args:
        models_dir: the models folder; by default that of the settings, else what ComfyUI says.
        extra: an ``extra_model_paths.yaml`` to read as well.
        hash: hash every file; hashes are remembered.
        write: also write what was found into the registry's ``local_scan``.
        registry: that registry.
        json: give JSON, which is also given when stdout is not a terminal.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json or not sys.stdout.isatty())
    here = Here(settings, console.say, models_dir=models_dir, extra=extra)
    scanned = look_inside(here.scan())
    with hash_cache(hashes_of(settings)) as hashes:
        if hash:
            with console.progress() as tell:
                scanned = hash_all(
                    scanned,
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
        else:
            scanned = scanned.with_hashes(hashes.known(scanned.files))
    console.data(scanned.to_json())
    show_scan(console, scanned)
    if write:
        write_sections(Path(registry), {"local_scan": _section(scanned.inventory())})
    return 0


def compare(
    *,
    registry: str = "models-registry.yaml",
    optional: bool = False,
    write: bool = False,
    html: str = "",
    transport: str = "job",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Compare what is wanted with what is here and on the volume.

    Args:
        registry: the registry file.
        optional: also plan for optional models that are missing.
        write: also write what the volume holds into the registry's ``runpod_status``.
        html: also write a page to look at into this file.
        transport: ``job`` or ``s3``.
        json: give JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    wanted = load(Path(registry))
    with open_remote(settings, transport, say=console.say) as remote:
        there = look_there(remote.store, console)
    here = Here(settings, console.say).inventory()
    plan = compare_plan(wanted, there, here, optional=optional)
    if write:
        write_sections(wanted.path, {"runpod_status": _section(there)})
    if html:
        write_whole(Path(html), compare_page(plan, there).encode())
        console.say(f"Wrote {html}.")
    console.data(plan.to_json())
    show_plan(console, plan, here=here is not None)
    if plan.changes:
        console.say("To do it: inv models.sync")
    return 0


def sync(
    *,
    registry: str = "models-registry.yaml",
    only: str = "",
    optional: bool = False,
    prune: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    transport: str = "job",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Bring the volume to what the registry wants.

    Args:
        registry: the registry file.
        only: names of models, optional ones too, or paths of files, with commas between; by default
            everything.
        optional: also fetch optional models.
        prune: also remove what nothing in the registry refers to.
        dry_run: show the plan and stop.
        yes: do not ask.
        transport: ``job`` or ``s3``.
        json: give JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    wanted = load(Path(registry))
    here = Here(settings, console.say)
    with open_remote(settings, transport, locate=here.locate, say=console.say) as remote:
        there = look_there(remote.store, console)
        names = set(listed(only))
        plan = compare_plan(wanted, there, here.inventory(), optional=optional or bool(names), prune=prune)
        if names:
            plan = plan.only(names)
        show_plan(console, plan)
        show_terms(console, plan)
        if dry_run or not plan.changes or not (yes or console.ask("Apply this plan?")):
            tell_done(plan, [], console)
            return 0
        carry_out(plan, remote, console)
    console.say("To see that the bytes are right: inv models.verify --deep")
    return 0


def verify(
    *,
    registry: str = "models-registry.yaml",
    optional: bool = False,
    deep: bool = False,
    transport: str = "job",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Check the files on the volume.

    Args:
        registry: the registry file.
        optional: also check optional models.
        deep: read every byte where it lies, instead of trusting the records.
        transport: ``job`` or ``s3``.
        json: give JSON.
        settings: by default those of the environment.

    Returns:
        0 when every file is right, else `WRONG`.
    """
    settings, console = opened(settings, json=json)
    wanted = load(Path(registry)).files(required_only=not optional)
    with open_remote(settings, transport, say=console.say) as remote, console.progress() as tell:
        files = remote.store.verify([file.wanted() for file in wanted], deep=deep, on_progress=tell)
    right = all(file["ok"] for file in files)
    console.data({"ok": right, "deep": deep, "files": files})
    show_verified(console, files)
    return 0 if right else WRONG


def _section(found: Inventory) -> dict[str, Any]:
    """What the registry's own sections say of a place; without times, so that no change means no diff."""
    files = [
        {"path": record["path"], "size_bytes": record["size_bytes"], "sha256": record["sha256"]}
        for record in found.files.values()
    ]
    room = {"total_bytes": found.total_bytes, "used_bytes": found.used_bytes}
    return {name: value for name, value in room.items() if value is not None} | {"files": files}
