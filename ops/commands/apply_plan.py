"""What the commands on models share: look at the volume, carry out a plan, tell what was done."""

from collections.abc import Sequence

from ops.console.console import Console
from ops.console.model_tables import show_done
from ops.models.inventory import Inventory
from ops.stores.model_store import ModelStore
from ops.stores.remote_volume import Remote
from ops.sync.apply import Done, apply
from ops.sync.plan import Plan


def look_there(store: ModelStore, console: Console) -> Inventory:
    """Look at the volume, and pass on what could not be read."""
    there = store.inventory()
    for sentence in there.warnings:
        console.warn(sentence)
    return there


def carry_out(plan: Plan, remote: Remote, console: Console) -> None:
    """Do what a plan says, and tell what was done, also when some of it failed or Ctrl-C came."""
    done: list[Done] = []
    try:
        with console.progress() as tell:
            apply(plan, remote.store, on_progress=tell, on_done=done.append, stop=remote.stop)
    finally:
        tell_done(plan, done, console)


def tell_done(plan: Plan, done: Sequence[Done], console: Console) -> None:
    """Return a plan and what became of it."""
    console.data({"plan": plan.to_json(), "done": [entry.to_json() for entry in done]})
    show_done(console, done)
