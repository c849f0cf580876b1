"""The demo: deploy, provision, generate, drift, mend and destroy, on a RunPod on loopback.

Every step is what a user would do against RunPod, with the same programs: the
Pulumi CLI on this repository's own program, ``ops`` and ``backend``. Only the
addresses differ.
"""

import contextlib
import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from backend import Settings, get_backend
from backend.errors import ComfyformError, ConfigError
from backend.flow.http_driver import Http
from examples.demo.runpod import LocalRunPod, clean_environment, start
from examples.demo.stack import Project
from infra.engine import pulumi_cli
from ops.commands import models as commands_models
from ops.commands import report as commands_report
from ops.console.console import Printer
from ops.registry.load import load
from ops.runpod.api import ENDPOINTS, NETWORK_VOLUMES, TEMPLATES, RunPodApi

REGISTRY = Path(__file__).with_name("models-registry.yaml")
PROMPT = "Odin, one-eyed, ravens on his shoulders, storm light"
SEED = 42
MARK = ".comfyform-demo"
"""What says that a folder is a demo's, so that it may be emptied."""


@dataclass(slots=True)
class Diary:
    """What was done, how long it took, and what came of it."""

    console: Printer
    entries: list[tuple[str, float, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Time a step; the block appends what came of it."""
        self.console.print()
        self.console.rule(title, align="left")
        outcome: list[str] = []
        started = time.monotonic()
        yield outcome
        self.entries.append((title, time.monotonic() - started, "; ".join(outcome)))

    def show(self) -> None:
        """Print the whole as a table."""
        table = Table("step", "seconds", "outcome", title="\nWhat was done", title_justify="left")
        table.columns[1].justify = "right"
        for title, seconds, outcome in self.entries:
            table.add_row(title, f"{seconds:.1f}", outcome)
        table.add_section()
        table.add_row("in all", f"{sum(seconds for _, seconds, _ in self.entries):.1f}", "")
        self.console.print(table)


def main(home: Path, *, keep: bool = False, comfyui_url: str = "") -> int:
    """Run the demo.

    Args:
        home: the demo's folder; what an earlier demo left there is deleted.
        keep: leave the environment up, and print the lines that point a shell at it.
        comfyui_url: a ComfyUI for the local path; by default the stand-in.

    Returns:
        The exit code: 0 when every step did what it should.

    Raises:
        ComfyformError: a step failed; nothing of the demo is left running.
    """
    diary = Diary(Printer(highlight=False))
    pulumi = pulumi_cli.find()
    _make_room(home)
    with contextlib.ExitStack() as cleanup:
        # SIGTERM ends the demo as Ctrl-C does: everything that was started is stopped.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        cleanup.callback(signal.signal, signal.SIGTERM, before)
        with diary.step("Start a RunPod on loopback") as outcome:
            server = start(home / "runpod")
            cleanup.callback(server.stop)
            outcome.append(server.environment["RUNPOD_REST_URL"])
        environment = {**clean_environment(), **server.environment}
        environment["COMFYUI_MODELS_DIR"] = str(server.comfyui_models)
        environment["COMFYFORM_STATE_DIR"] = str(home / "journal")
        project = Project.make(home, pulumi, environment, REGISTRY)
        settings = _deploy(diary, project, environment)
        _generate(diary, settings, server, comfyui_url, home / "pictures")
        _drift(diary, project, settings, server)
        with diary.step("Draw the whole as a page") as outcome:
            page = home / "report.html"
            if commands_report.report(output=str(page), registry=str(REGISTRY), settings=settings):
                raise ComfyformError("The page lacks a section.")
            outcome.append(f"{page.stat().st_size // 1000} kB, nothing to fetch")
        if keep:
            cleanup.pop_all()
            (home / "kept.pid").write_text(str(server.process.pid))
        else:
            _destroy(diary, project, settings)
    diary.show()
    for picture in sorted((home / "pictures").iterdir()):
        diary.console.print(f"picture: {picture}", soft_wrap=True)
    diary.console.print(f"page:    {page}", soft_wrap=True)
    if keep:
        _tell_how_to_go_on(diary.console, project, settings, environment, server)
    return 0


def _make_room(home: Path) -> None:
    """Empty the demo's folder, unless it belongs to another program or an earlier demo still lives in it."""
    if home.exists() and any(home.iterdir()) and not (home / MARK).exists():
        raise ConfigError(f"{home} is not empty and not a demo's folder.", hint="Name another with --home.")
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int((home / "kept.pid").read_text())
        os.kill(pid, 0)
        raise ConfigError(f"A demo that was kept is still up, as process {pid}.", hint=f"End it: kill {pid}")
    shutil.rmtree(home, ignore_errors=True)
    (home / "pictures").mkdir(parents=True)
    (home / MARK).touch()


def _deploy(diary: Diary, project: Project, environment: Mapping[str, str]) -> Settings:
    """Bring the stack up, and look at its models."""
    with diary.step("pulumi up: volume, templates, endpoints, models") as outcome:
        project.pulumi("up", "--yes")
        outputs = project.outputs()
        outcome.append(f"volume {outputs['volume_id']}, endpoint {outputs['endpoint_id']}")
    settings = Settings.from_env({**environment, **outputs["backend_env"]})
    with diary.step("Compare and verify the models") as outcome:
        commands_models.compare(registry=str(REGISTRY), settings=settings)
        outcome.append(_verify(settings))
    return settings


def _verify(settings: Settings) -> str:
    """Hash every required model where it lies."""
    if commands_models.verify(registry=str(REGISTRY), deep=True, settings=settings):
        raise ComfyformError("A model is not what the registry says.")
    return f"{len(load(REGISTRY).files())} files right, every byte hashed"


def _generate(
    diary: Diary, settings: Settings, server: LocalRunPod, comfyui_url: str, pictures: Path
) -> None:
    """Make the same portrait on RunPod and on a local ComfyUI."""
    with diary.step("A portrait on RunPod") as outcome:
        outcome.append(_portrait(diary.console, "runpod", settings, pictures))
    with diary.step("The same on a local ComfyUI") as outcome:
        if comfyui_url:
            settings = Settings.from_env({"COMFYUI_URL": comfyui_url})
        else:
            # A laptop's ComfyUI has its own models folder.
            volume = server.volume(settings.need("runpod_volume_id", "the stack exports it"))
            shutil.copytree(volume / "models", server.comfyui_models, dirs_exist_ok=True)
        outcome.append(_portrait(diary.console, "local", settings, pictures))


def _portrait(console: Printer, where: str, settings: Settings, pictures: Path) -> str:
    """Make a portrait and say what came of it."""
    with get_backend(where, settings=settings) as backend:
        result = backend.portrait(
            prompt=PROMPT, seed=SEED, output_path=pictures / f"odin-{where}.png"
        ).raise_for_failure()
    file = result.files[0]
    about = f"sha256 {file.sha256}, {file.size_bytes} bytes, seed {result.seed}"
    console.print(f"{file.local_path}\n{about}", soft_wrap=True, markup=False)
    return f"{file.size_bytes} bytes, sha256 {(file.sha256 or '')[:12]}…"


def _drift(diary: Diary, project: Project, settings: Settings, server: LocalRunPod) -> None:
    """Lose a model file, find out, and mend it."""
    volume = server.volume(settings.need("runpod_volume_id", "the stack exports it"))
    lost = load(REGISTRY).files()[0].volume_path
    with diary.step("Delete a model behind Pulumi's back; refresh") as outcome:
        (volume / lost).unlink()
        diary.console.print(f"deleted {lost}")
        project.pulumi("refresh", "--yes")
        if lost in project.ask("stack", "--show-urns"):
            raise ComfyformError(f"refresh did not notice that {lost} is gone.")
        outcome.append(f"{lost} is gone, and Pulumi knows")
    with diary.step("pulumi up repairs it") as outcome:
        project.pulumi("up", "--yes")
        outcome.append(_verify(settings))


def _destroy(diary: Diary, project: Project, settings: Settings) -> None:
    """Take everything down, and ask RunPod what is left."""
    with diary.step("pulumi destroy") as outcome:
        project.pulumi("destroy", "--yes")
        with Http() as http:
            key = settings.need("runpod_api_key", "RunPod wants it")
            api = RunPodApi(http, settings.runpod_rest_url, key)
            left = [
                live.name for kind in (NETWORK_VOLUMES, TEMPLATES, ENDPOINTS) for live in api.list_all(kind)
            ]
        if left:
            raise ComfyformError(f"destroy left something behind: {', '.join(left)}.")
        outcome.append("RunPod has no volume, template or endpoint left")


def _tell_how_to_go_on(
    console: Printer,
    project: Project,
    settings: Settings,
    environment: Mapping[str, Any],
    server: LocalRunPod,
) -> None:
    """Print the lines that point a shell at what was kept."""
    variables = {
        **server.environment,
        "COMFYUI_MODELS_DIR": environment["COMFYUI_MODELS_DIR"],
        "COMFYFORM_STATE_DIR": environment["COMFYFORM_STATE_DIR"],
        "COMFY_BACKEND": "runpod",
        "RUNPOD_ENDPOINT_ID": settings.runpod_endpoint_id,
        "RUNPOD_OPS_ENDPOINT_ID": settings.runpod_ops_endpoint_id,
        "RUNPOD_VOLUME_ID": settings.runpod_volume_id,
        **project.exports(),
    }
    console.print("\n# The environment is up. To play with it, give your shell these lines:", soft_wrap=True)
    for name, value in variables.items():
        console.print(f"export {name}={shlex.quote(str(value))}", soft_wrap=True, markup=False)
    console.print(
        "# the stack: ./inv stack.outputs, stack.cost, stack.up, stack.down; ./inv doctor", soft_wrap=True
    )
    console.print(f"# pulumi itself works in {project.folder}", soft_wrap=True, markup=False)
    console.print(f"# models:   ./inv models.compare --registry {REGISTRY}", soft_wrap=True, markup=False)
    console.print(f"# to end it: kill {server.process.pid}", soft_wrap=True, markup=False)
