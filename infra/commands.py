"""What ``inv stack.*``, ``inv env`` and ``inv doctor`` do. Each function is one command.

They take plain values and give an exit code; errors go up to whoever runs them.
"""

import signal
import sys
from pathlib import Path
from typing import Final, Literal

from backend.drivers import Http
from backend.errors import ComfyformError, ConfigError, MissingSetting
from backend.settings import Settings
from infra import stacks
from infra.export import render
from infra.preflight import workers
from infra.pulumi_cli import locate, project_folder, stack_name
from infra.stack_config import StackConfig
from infra.stacks import FAILED, Stack
from infra.state_folder import PROJECT_NAME
from ops import doctor as checks
from ops.catalog import fetch
from ops.console import Console, Mode
from ops.cost import estimate
from ops.registry import load
from ops.runpod_api import ENDPOINTS, NETWORK_VOLUMES, REGISTRY_CREDENTIALS, TEMPLATES, RunPodApi

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
        refresh: look at RunPod first, and mend drift.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    opened = _ready(_checked(stack, project), yes, "up")
    options = [*(["--yes"] if yes else []), *(["--refresh"] if refresh else [])]
    return _exit(opened.run("up", *options).returncode)


def refresh(*, stack: str = "", yes: bool = False, project: str | Path = "") -> int:
    """Look at RunPod and take what has changed there into the state; ``up`` then mends it.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        yes: do not ask.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    _key(stack, project)
    opened = _ready(Stack.at(stack, project=project).opened(), yes, "refresh")
    return _exit(opened.run("refresh", *(["--yes"] if yes else [])).returncode)


def down(*, stack: str = "", yes: bool = False, project: str | Path = "") -> int:
    """Destroy everything of the stack: show what, ask, do it; then say what is left over.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        yes: do not ask.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    _key(stack, project)
    opened = _ready(Stack.at(stack, project=project).opened(), yes, "down")
    # Never with --skip-preview: a protected volume is refused in the preview, before anything is deleted.
    if code := _exit(opened.run("destroy", *(["--yes"] if yes else [])).returncode):
        return code
    left = _orphans(opened, prefix=f"{PROJECT_NAME}-{opened.name}-")
    if left:
        Console().warn(
            f"{len(left)} objects of this stack are still at RunPod: inv stack.orphans lists them."
        )
    return 0


def outputs(*, stack: str = "", json: bool = False, project: str | Path = "") -> int:
    """Give the stack's outputs.

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
            f"Stack {opened.name!r} is not up.", hint=f"Run inv stack.up --stack {opened.name}."
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
    config = stacks.config(stack_name(stack), project)
    with Http() as http:
        catalog = fetch(_api(http))
    made = estimate(
        catalog, volume_gb=config.volume_gb, volume_type=config.volume_type, workers=workers(config)
    )
    console = _console(json)
    console.data(made.to_json())
    rows = [
        [line.what, line.detail, f"{line.usd_per_month:.2f}", f"{line.usd_per_hour_max:.2f}"]
        for line in made.lines
    ]
    total = ["together", "", f"{made.usd_per_month:.2f}", f"{made.usd_per_hour_max:.2f}"]
    console.table(["", "what", "USD/month idle>", "USD/hour at most>"], [*rows, total])
    for note in made.notes:
        console.say(note)
    return 0


def orphans(*, stack: str = "", json: bool = False, project: str | Path = "") -> int:
    """List what carries this project's names at RunPod and is in the state of none of its stacks.

    Args:
        stack: its name; by default that of ``PULUMI_STACK``, else ``dev``.
        json: give JSON.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    found = _orphans(Stack.at(stack, project=project), prefix=f"{PROJECT_NAME}-")
    console = _console(json)
    console.data([{"kind": kind, "id": id_, "name": name} for kind, id_, name in found])
    if found:
        console.table(["kind", "id", "name"], found)
        console.say("The next `up` of their stack adopts them; else delete them in RunPod's console.")
    else:
        console.say("Nothing is left over.")
    return 0


def doctor(*, json: bool = False, stack: str = "", project: str | Path = "") -> int:
    """Check keys and their rights, addresses, the clock, Pulumi, the registry, and old leftovers.

    Args:
        json: give JSON.
        stack: whose configuration names the registry.
        project: the folder of ``Pulumi.yaml``; by default that of ``COMFYFORM_PROJECT``, else the checkout.
    """
    settings = Settings.from_env()
    registry = project_folder(project) / stacks.config(stack_name(stack), project).registry
    with Http() as http:
        found = [*checks.examine(settings, http, registry), _pulumi_finding()]
    console = _console(json)
    console.data([finding.to_json() for finding in found])
    console.table(["", "what", "found"], [[f.state, f.what, f.detail] for f in found])
    for finding in found:
        if finding.hint:
            console.say(f"{finding.what}: {finding.hint}")
    return 2 if any(finding.state == "problem" for finding in found) else 0


def _pulumi_finding() -> checks.Finding:
    cli = locate()
    if cli is None:
        return checks.Finding("Pulumi", "warning", "there is no CLI", "The next stack command gets one.")
    return checks.Finding("Pulumi", "ok", f"{cli.version} ({cli.program})")


def _checked(stack: str, project: str | Path) -> Stack:
    """Open a stack after everything that can be said without Pulumi has been said."""
    config = _key(stack, project)
    load(project_folder(project) / config.registry)
    return Stack.at(stack, project=project).opened(create=True)


def _key(stack: str, project: str | Path) -> StackConfig:
    """Want a key from the environment, or a stack that has one."""
    name = stack_name(stack)
    config = stacks.config(name, project)
    if Settings.from_env().runpod_api_key is None and not stacks.has_secret(name, "runpod_api_key", project):
        raise MissingSetting("RUNPOD_API_KEY", "RunPod's API wants a key")
    return config


def _ready(opened: Stack, yes: bool, command: str) -> Stack:
    """Give a stack that may be acted on: somebody agrees or can be asked, and no dead run's lock is left."""
    if not yes and not sys.stdin.isatty():
        raise ConfigError(
            f"inv stack.{command} asks before it acts, and nobody is there to answer.", hint="Say --yes."
        )
    opened.make_ready()
    return opened


def _orphans(opened: Stack, *, prefix: str) -> list[tuple[str, str, str]]:
    known: set[str] = set()
    for name in opened.names():
        known |= opened.of(name).ids()
    with Http() as http:
        api = _api(http)
        return [
            (kind.noun, live.id, live.name)
            for kind in _KINDS
            for live in api.list_all(kind)
            if live.name.startswith(prefix) and live.id not in known
        ]


def _api(http: Http) -> RunPodApi:
    settings = Settings.from_env()
    key = settings.need("runpod_api_key", "RunPod's API wants a key")
    return RunPodApi(http, settings.runpod_rest_url, key)


def _exit(code: int) -> int:
    if code < 0:
        raise ComfyformError(
            f"Pulumi was killed ({signal.Signals(-code).name}).",
            hint="Run the same command again: what is done stays done.",
        )
    return FAILED if code else 0


def _console(json: bool) -> Console:
    mode: Mode = "json" if json else "human"
    return Console(mode)
