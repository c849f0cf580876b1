"""What the commands on models share: look at the volume, carry out a plan, tell what was done."""

from collections.abc import Sequence

from ops.console import Console
from ops.inventory import Inventory
from ops.plan import Plan
from ops.remote_volume import Remote
from ops.show_models import show_done
from ops.store import ModelStore
from ops.sync import Done, apply


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
    """Give a plan and what became of it."""
    console.data({"plan": plan.to_json(), "done": [entry.to_json() for entry in done]})
    show_done(console, done)
