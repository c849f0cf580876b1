"""What ``inv stack.*``, ``inv env`` and ``inv doctor`` do. Each function is one command.

They take plain values and give an exit code; errors go up to whoever runs them.
"""

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from backend.errors import ComfyformError, ConfigError
from backend.flow.http_driver import Http
from backend.settings import Settings
from infra.cli.env_formats import render
from infra.cli.import_plan import COLUMNS, OPS, VOLUME, WORKER, assignments, propose
from infra.cli.runtime_finding import runtime_finding
from infra.engine.pulumi_cli import Pulumi, locate
from infra.engine.pulumi_project import Project
from infra.engine.stacks import FAILED, Stack
from infra.naming import stack_of
from infra.preflight import price, survey
from infra.provider_session import NAMESPACE
from infra.stack_config import StackConfig
from ops.commands import doctor_checks as checks
from ops.console.console import Console, Mode
from ops.registry.load import load
from ops.runpod.api import ENDPOINTS, NETWORK_VOLUMES, REGISTRY_CREDENTIALS, TEMPLATES, RunPodApi

Format = Literal["shell", "dotenv", "json"]
_KINDS: Final = (ENDPOINTS, TEMPLATES, REGISTRY_CREDENTIALS, NETWORK_VOLUMES)


def preview(*, stack: str = "", diff: bool = False, refresh: bool = False, project: str | Path = "") -> int:
    """Show what ``up`` would do, and what it would cost.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        diff: show each property.
        refresh: look at RunPod first, for drift.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    opened = _checked(stack, project)
    options = [*(["--diff"] if diff else []), *(["--refresh"] if refresh else [])]
    return _exit(opened.run("preview", *options).returncode)


def up(*, stack: str = "", yes: bool = False, refresh: bool = False, project: str | Path = "") -> int:
    """Make RunPod what the program says: show the plan, ask, do it.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        yes: do not ask.
        refresh: read RunPod first, and repair drift.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    opened = _ready(_checked(stack, project), yes, "up")
    options = [*(["--yes"] if yes else []), *(["--refresh"] if refresh else [])]
    return _exit(opened.run("up", *options).returncode)


def refresh(*, stack: str = "", yes: bool = False, project: str | Path = "") -> int:
    """Read RunPod and record its changes in the state; ``up`` then repairs them.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        yes: do not ask.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    opened = _ready(_existing(stack, project), yes, "refresh")
    return _exit(opened.run("refresh", *(["--yes"] if yes else [])).returncode)


def down(*, stack: str = "", yes: bool = False, project: str | Path = "") -> int:
    """Destroy everything of the stack: show what, ask, do it; then say what is left over.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        yes: do not ask.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    opened = _ready(_existing(stack, project), yes, "down")
    # Never with --skip-preview: a protected volume is refused in the preview, before anything is deleted.
    if code := _exit(opened.run("destroy", *(["--yes"] if yes else [])).returncode):
        return code
    if left := _orphans(opened, own_stack_only=True):
        Console().warn(
            f"{len(left)} objects with this stack's name are still at RunPod and in no state of this "
            "backend: inv stack.orphans lists them."
        )
    return 0


def outputs(*, stack: str = "", json: bool = False, project: str | Path = "") -> int:
    """Return the stack's outputs.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        json: give JSON.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    found = Stack.at(stack, project=project).opened().outputs()
    console = _console(json)
    console.data(found)
    console.table(["output", "value"], [[name, str(value)] for name, value in found.items()])
    return 0


def env(*, stack: str = "", format: Format = "shell", project: str | Path = "") -> int:  # noqa: A002  # the option's name
    """Print the variables that point ``backend.get_backend()`` at the stack; none of them is secret.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        format: ``shell`` for ``eval "$(inv env)"``, ``dotenv``, or ``json``.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    opened = Stack.at(stack, project=project).opened()
    found = opened.outputs().get("backend_env")
    if not found:
        raise ConfigError(
            f"Stack {opened.name!r} is not deployed.", hint=f"Run inv stack.up --stack {opened.name}."
        )
    sys.stdout.write(render(found, format))
    return 0


def cost(*, stack: str = "", json: bool = False, project: str | Path = "") -> int:
    """Say what the stack costs, from RunPod's live catalog; nothing needs to be up.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        json: give JSON.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    named, config = _configured(stack, project, warn_of_defaults=True)
    with Http() as http:
        made = price(survey(_api(named, http)), config, named.project.name, named.name)
    console = _console(json)
    console.data(made.to_json())
    rows = [
        [line.what, line.detail, f"{line.usd_per_month:.2f}", f"{line.usd_per_hour_max:.2f}"]
        for line in made.lines
    ]
    total = ["Total", "", f"{made.usd_per_month:.2f}", f"{made.usd_per_hour_max:.2f}"]
    console.table(["", "what", "USD/month idle>", "USD/hour at most>"], [*rows, total])
    for part in made.unpriced:
        console.warn(part.sentence)
    for note in made.notes:
        console.say(note)
    return 0


def orphans(*, stack: str = "", json: bool = False, project: str | Path = "") -> int:
    """List objects at RunPod with this project's names that are in no state of the backend.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        json: give JSON.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    found = _orphans(_configured(stack, project)[0])
    console = _console(json)
    console.data([{"kind": kind, "id": id_, "name": name} for kind, id_, name in found])
    if found:
        console.table(["kind", "id", "name"], found)
        console.say(
            "The next `up` adopts what an interrupted `up` of the same stack left behind. A colleague's "
            "stack of the same project whose state is stored elsewhere looks the same: ask before you delete "
            "anything in RunPod's console."
        )
    else:
        console.say("No leftover objects.")
    return 0


def import_(
    *,
    stack: str = "",
    volume: str = "",
    ops_endpoint: str = "",
    worker_endpoint: str = "",
    write: bool = False,
    json: bool = False,
    project: str | Path = "",
) -> int:
    """List what is at RunPod, and propose the configuration that takes an environment over.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        volume: id of the volume, where the account has several.
        ops_endpoint: id of the endpoint that looks after the models, where there are several.
        worker_endpoint: id of the endpoint that generates, where there are several.
        write: put the proposal into the stack's configuration; nothing at RunPod changes before ``up``.
        json: give JSON.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    named = _configured(stack, project)[0]
    with Http() as http:
        api = _api(named, http)
        account = {kind.path: api.list_all(kind) for kind in _KINDS}
    states = {reference: named.of(reference).ids() for reference in named.every().values()}
    asked = {VOLUME: volume, OPS: ops_endpoint, WORKER: worker_endpoint}
    proposal = propose(account, states, asked)
    rows = [row for kind in _KINDS for row in proposal.rows(kind, account, states)]
    keys = {f"{NAMESPACE}:{key}": text for key, text in proposal.keys().items()}
    console = _console(json)
    console.data({"objects": [dict(zip(COLUMNS, row, strict=True)) for row in rows], "config": keys})
    console.table(COLUMNS, rows)
    for note in proposal.notes:
        console.say(note)
    if not proposal.chosen:
        console.say("Nothing to take over was found: every object is in a state, or the choice is unclear.")
    elif write:
        opened = named.opened(create=True)
        for key in [key for key, value in keys.items() if isinstance(value, list)]:
            opened.run("config", "rm", key, capture=True)  # else entries of a longer list would stay
        pairs = [part for each in assignments(keys) for part in ("--plaintext", each)]
        if opened.run("config", "set-all", "--path", *pairs).returncode:
            return FAILED
        console.say("Written. inv stack.preview shows what is taken over, and what changes on it.")
    else:
        console.say("This configuration takes it over (--write writes it):")
        for key, value in keys.items():
            console.say(f"  {key}: {value}")
    return 0


def doctor(*, json: bool = False, stack: str = "", project: str | Path = "") -> int:
    """Check keys and their rights, addresses, the clock, Pulumi, the registry, the runtime, old leftovers.

    Args:
        json: give JSON.
        stack: whose configuration names the registry.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    settings = Settings.from_env()
    cli = locate()
    named = Stack.at(stack, project=project, cli=cli) if cli is not None else None
    config = named.config() if named is not None else StackConfig()
    settings = replace(settings, runpod_api_key=settings.runpod_api_key or config.runpod_api_key)
    with Http() as http:
        found = [
            *checks.examine(settings, http, Project.at(project).folder / config.registry),
            _pulumi_finding(cli),
            *([runtime_finding(named, config, settings, http)] if named is not None else []),
        ]
    console = _console(json)
    console.data([finding.to_json() for finding in found])
    console.table(["", "what", "found"], [[f.state, f.what, f.detail] for f in found])
    for finding in found:
        if finding.hint:
            console.say(f"{finding.what}: {finding.hint}")
    return 2 if any(finding.state == "problem" for finding in found) else 0


def _pulumi_finding(cli: Pulumi | None) -> checks.Finding:
    if cli is None:
        return checks.Finding("Pulumi", "warning", "not installed", "The next stack command installs it.")
    return checks.Finding("Pulumi", "ok", f"{cli.version} ({cli.program})")


def _configured(
    stack: str, project: str | Path, *, warn_of_defaults: bool = False
) -> tuple[Stack, StackConfig]:
    """Read a stack's configuration and check that there is a key for RunPod; the stack need not exist."""
    named = Stack.at(stack, project=project)
    config = named.config(warn_of_defaults=warn_of_defaults)
    return named.with_key(config), config


def _checked(stack: str, project: str | Path) -> Stack:
    """Open a stack, or make it, after everything that its files say was checked."""
    named, config = _configured(stack, project)
    load(named.project.folder / config.registry)
    return named.opened(create=True)


def _existing(stack: str, project: str | Path) -> Stack:
    """Open a stack that exists, and check that there is a key for RunPod before anything is done to it."""
    return _configured(stack, project)[0].opened()


def _ready(opened: Stack, yes: bool, command: str) -> Stack:
    """Return a stack that may be acted on: it is confirmed or can be, and no lock of a dead run is left."""
    if not yes and not sys.stdin.isatty():
        raise ConfigError(
            f"inv stack.{command} needs confirmation, but stdin is not a terminal.", hint="Pass --yes."
        )
    opened.make_ready()
    return opened


def _orphans(opened: Stack, *, own_stack_only: bool = False) -> list[tuple[str, str, str]]:
    """List objects with this project's, or only this stack's, names that no state of the backend has.

    Returns:
        Kind, id and name of each.
    """
    project, stacks = opened.project.name, opened.every()
    with Http() as http:
        api = _api(opened, http)
        live = [(kind.noun, each.id, each.name) for kind in _KINDS for each in api.list_all(kind)]

    def is_ours(name: str) -> bool:
        owner = stack_of(name, [*stacks, (project, opened.name)])
        if own_stack_only:
            return owner == (project, opened.name)
        return owner[0] == project if owner else name.startswith(f"{project}-")

    found = [each for each in live if is_ours(each[2])]
    # States of this project first: mostly they have everything, and others need not be read.
    for reference in sorted(stacks.values(), key=lambda each: "/" in each):
        if not found:
            break
        ids = opened.of(reference).ids()
        found = [each for each in found if each[1] not in ids]
    return found


def _api(named: Stack, http: Http) -> RunPodApi:
    settings = named.settings()
    key = settings.need("runpod_api_key", "RunPod's API needs a key")
    return RunPodApi(http, settings.runpod_rest_url, key)


def _exit(code: int) -> int:
    if code < 0:
        raise ComfyformError(
            f"Pulumi was killed ({signal.Signals(-code).name}).",
            hint="Run the same command again: completed work is kept.",
        )
    return FAILED if code else 0


def _console(json: bool) -> Console:
    mode: Mode = "json" if json else "human"
    return Console(mode)
