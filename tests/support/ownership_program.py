"""A Pulumi program that declares whatever `resources.json` beside it lists, with options.

`tests/infra/test_ownership.py` copies it into a project. An entry has the class of `infra.resources`, a
logical name, fields, and options; a field `{"of": name}` is the id of a resource that comes before it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
from pulumi import Alias, ComponentResource, ProviderResource, ResourceOptions

from infra import resources
from infra.environment import LANES
from infra.forwarded_settings import worker_env

made: dict[str, Any] = {}
models: list[Any] = []
components: dict[str, ComponentResource] = {}
processes: dict[str, ProviderResource] = {}


def value(given: Any) -> Any:
    """Put ids where the list names resources, and the addresses of this machine's servers."""
    if given == "WORKER_ENV":
        return worker_env()
    if isinstance(given, dict) and "of" in given:
        return made[given["of"]].id
    if isinstance(given, list):
        return [value(each) for each in given]
    return given


def options(given: dict[str, Any]) -> ResourceOptions:
    """Make Pulumi's options of an entry."""
    found = ResourceOptions(
        protect=given.get("protect", False), delete_before_replace=given.get("deleted_first")
    )
    if parent := given.get("parent"):
        if parent not in components:
            components[parent] = ComponentResource("test:index:Group", parent)
        found.parent = components[parent]
    if process := given.get("provider"):
        if process not in processes:
            processes[process] = ProviderResource("pulumi-python", process, {})
        found.provider = processes[process]
    if was := given.get("was"):
        found.aliases = [Alias(name=was, parent=pulumi.ROOT_STACK_RESOURCE)]
    return found


for kind, name, fields, given in json.loads(Path(__file__).with_name("resources.json").read_text()):
    arguments = {key: value(each) for key, each in fields.items()}
    opts = options(given)
    if kind == "Model":
        # A process makes only a few at a time, as in `infra.environment`.
        opts.depends_on = models[-LANES:][:1] if len(models) >= LANES else []
    made[name] = getattr(resources, kind)(name, opts=opts, **arguments)
    if kind == "Model":
        models.append(made[name])
