"""The tasks behind ``./inv``.

Those of the product are the functions of its commands modules, one task each;
here are only those of the project itself.
"""

import os
import subprocess
import sys
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.commands.invoke_tasks import CommandTask, run, tasks_of
from ops.commands.invoke_verb_tasks import verb_tasks

ROOT = Path(__file__).parent


def python(*arguments: str) -> None:
    """Run a Python program of this environment; its failure ends the task with its exit code."""
    code = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode
    if code:
        raise Exit(code=code)


@task(
    klass=CommandTask,
    help={
        "keep": "Leave the environment up and print the lines that point your shell at it.",
        "comfyui_url": "Use this ComfyUI for the local path instead of the stand-in.",
        "home": "Folder for the demo's state and pictures; what an earlier demo left there is deleted.",
    },
)
def demo(_: Context, keep: bool = False, comfyui_url: str = "", home: str = ".comfyform/demo") -> None:
    """Deploy, provision, generate, drift, repair and destroy on an emulated RunPod: no account, no GPU."""
    run("examples.demo.story", "main", Path(home).resolve(), keep=keep, comfyui_url=comfyui_url)


@task(klass=CommandTask)
def check(_: Context) -> None:
    """Format, lint, types, import ladder and generated pages: what is quick of ./inv test."""
    python("-m", "ruff", "format", "--check", "--quiet", ".")
    python("-m", "ruff", "check", "--quiet", ".")
    python("-c", "import sys; from importlinter.cli import lint_imports_command as lint; sys.exit(lint())")
    python("-m", "mypy", "--no-error-summary")
    python("-m", "tools.docs", "--check")


@task(
    klass=CommandTask,
    help={
        "only": "Arguments for pytest, for example 'tests/project/test_house.py -k ladder'.",
        "fast": "Leave out the tests marked slow, and the Pulumi CLI: about a minute.",
    },
)
def test(c: Context, only: str = "", fast: bool = False) -> None:  # noqa: PT028 - a task, not a test
    """Run the checks and every test, as the continuous integration does."""
    if fast:
        check(c)
    elif not only:
        from infra.engine import pulumi_cli

        check(c)
        pulumi_cli.find()
    # Slow tests wait for processes more than they compute: one pytest more than there are processors.
    processes = (os.cpu_count() or 1) + (not fast)
    spread = ["--numprocesses", str(processes), "--dist", "worksteal"]
    python("-m", "pytest", *(only.split() or spread), *(["-m", "not slow"] if fast else []))


@task(klass=CommandTask)
def docs(_: Context) -> None:
    """Write the pages that follow from the code."""
    python("-m", "tools.docs")


@task(
    klass=CommandTask,
    help={"comfyui_dir": "Take requirements from this ComfyUI and its packs; default: fetch them with git."},
)
def lock(_: Context, comfyui_dir: str = "") -> None:
    """Resolve requirements.lock and the images' locks, and prove that the latter install."""
    options = "--quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-header"
    python(
        "-m", "uv", "pip", "compile", *options.split(), "pyproject.toml", "--output-file", "requirements.lock"
    )
    python("-m", "tools.worker_locks", *(["--comfyui-dir", comfyui_dir] if comfyui_dir else []))


JOBS = {"list": "list_jobs", "show": "show_job", "wait": "wait_job", "cancel": "cancel_job"}
RUNTIME = {"list": "list_runtime", "prune": "prune"}
COMMANDS: dict[str, dict[str, dict[str, str] | None]] = {
    "models": {
        f"ops.commands.{module}": None for module in ("models", "registry", "import_models", "cleanup")
    },
    "stack": {"infra.cli.commands": None},
    "backend": {"ops.commands.generate": {"health": "health"}},
    "runtime": {"ops.commands.runtime": RUNTIME},
    "jobs": {"ops.commands.jobs": JOBS},
    "images": {"infra.cli.image_commands": None},
    "mcp": {"mcp_server.commands": None},
    "report": {"ops.commands.report": None},
}
"""Group → commands module → task name and function, where not every public function is a task."""
AT_THE_TOP = ("env", "doctor", "report")

namespace = Collection(demo, check, test, docs, lock, *tasks_of("tools.conformance.command"))
namespace.add_collection(Collection("generate", *verb_tasks()))
for group, modules in COMMANDS.items():
    made = {task.name: task for module, names in modules.items() for task in tasks_of(module, names)}
    for name in AT_THE_TOP:
        if name in made:
            namespace.add_task(made.pop(name))
    if made:
        namespace.add_collection(Collection(group, *made.values()))
