"""The tasks behind ``./inv``: shims of a few lines, each over one function of the library.

Imports are inside the tasks, so that ``./inv --list`` is quick and a task
pays only for what it uses.
"""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

ROOT = Path(__file__).parent


def call(name: str, /, *arguments: Any, **options: Any) -> None:
    """Run ``module:function``; its errors become one line and an exit code."""
    from backend.errors import ComfyformError
    from ops import console

    module, function = name.split(":")
    try:
        run: Callable[..., int | None] = getattr(importlib.import_module(module), function)
        code = run(*arguments, **options)
    except ComfyformError as error:
        code = console.fail(error)
    except KeyboardInterrupt:
        console.Console().say("Stopped. Run the same command again to go on.")
        code = console.INTERRUPTED
    if code:
        raise Exit(code=code)


def python(*arguments: str) -> None:
    """Run a Python program of this environment; its failure ends the task with its exit code."""
    code = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode
    if code:
        raise Exit(code=code)


# --- the project itself -----------------------------------------------------


@task(
    help={
        "keep": "Leave the environment up and print the lines that point your shell at it.",
        "comfyui_url": "Use this ComfyUI for the local path instead of the stand-in.",
    }
)
def demo(_: Context, keep: bool = False, comfyui_url: str = "") -> None:
    """Deploy, provision, generate, drift, mend and destroy on an emulated RunPod: no account, no GPU."""
    call("examples.demo.story:main", keep=keep, comfyui_url=comfyui_url)


@task
def check(_: Context) -> None:
    """Format, lint, types, import ladder and generated pages: what is quick of ./inv test."""
    python("-m", "ruff", "format", "--check", "--quiet", ".")
    python("-m", "ruff", "check", "--quiet", ".")
    python("-m", "importlinter.cli", "lint")
    python("-m", "mypy", "--no-error-summary")
    python("tools/docs.py", "--check")


@task(help={"only": "Arguments for pytest, for example 'tests/test_house.py -k ladder'."})
def test(c: Context, only: str = "") -> None:  # noqa: PT028 - a task, not a test
    """Run the checks and every test, as the continuous integration does."""
    if not only:
        check(c)
        call("infra.pulumi_cli:ensure")
    python("-m", "pytest", *only.split())


@task
def docs(_: Context) -> None:
    """Write the pages that follow from the code."""
    python("tools/docs.py")


@task
def lock(_: Context) -> None:
    """Resolve pyproject.toml into requirements.lock, with the hash of every package."""
    options = "--quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-header"
    python(
        "-m", "uv", "pip", "compile", *options.split(), "pyproject.toml", "--output-file", "requirements.lock"
    )


namespace = Collection(demo, check, test, docs, lock)
