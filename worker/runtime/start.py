"""``python -m worker.runtime.start``: the second stage, from the code archive; it needs no packages.

It finds the environments that the endpoint names, unpacks them onto the container's disk, gives up root, and
becomes ``python -m worker``. On the ops endpoint it takes the job that builds the ops environment where that
is missing.
"""

import importlib.metadata
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from backend.contract import EnvironmentRecord
from backend.errors import ComfyformError, NotSupported
from worker.runtime import archives, bootstrap, privileges
from worker.runtime.actions import CODE_FOLDER, RuntimeActions
from worker.runtime.environment_build import COMFYUI, PACKAGES, Report, platform_name, python_version
from worker.runtime.runtime_store import RuntimeStore


@dataclass(frozen=True, slots=True)
class Need:
    """An environment that the endpoint names; without ``sha256`` the volume's record names the archive."""

    kind: str
    key: str
    sha256: str | None


def needs(environ: Mapping[str, str]) -> list[Need]:
    """Read which environments this endpoint needs, the worker's own first."""
    own = Need(
        "ops", environ.get("COMFYFORM_OPS_ENVIRONMENT", ""), environ.get("COMFYFORM_OPS_ENVIRONMENT_SHA256")
    )
    named = Need(
        environ.get("COMFYFORM_ROLE", "generation"),
        environ.get("COMFYFORM_ENVIRONMENT", ""),
        environ.get("COMFYFORM_ENVIRONMENT_SHA256"),
    )
    return [need for need in (own, named) if need.key]


def main() -> NoReturn:
    """Start the worker; a failure answers the jobs, because a restart would only repeat it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    environ: MutableMapping[str, str] = os.environ
    try:
        start(environ)
    except (ComfyformError, OSError) as error:
        bootstrap.refuse(f"the worker cannot start: {error}")


def start(environ: MutableMapping[str, str]) -> NoReturn:
    """Unpack what is needed and become the worker."""
    times: dict[str, Any] = json.loads(environ.get("COMFYFORM_START", "{}"))
    volume = Path(bootstrap.VOLUME)
    actions = RuntimeActions(volume, environ)
    folders: dict[str, Path] = {}
    for need in needs(environ):
        begin = time.monotonic()
        folders[need.kind] = provide(need, actions, environ)
        times[f"{need.kind}_s"] = round(time.monotonic() - begin, 3)
    note = privileges.drop(environ, volume)
    times["notes"] = [note] if note else []
    environ["PYTHONPATH"] = os.pathsep.join(
        [str(CODE_FOLDER), *(str(folders[kind] / PACKAGES) for kind in ("ops",) if kind in folders)]
    )
    environ.setdefault("COMFYFORM_BUILD", environ.get("COMFYFORM_CODE", "")[:12])
    if "generation" in folders and (folders["generation"] / COMFYUI / "main.py").is_file():
        environ.setdefault("COMFYUI_COMMAND", comfyui_command(folders["generation"]))
    environ["COMFYFORM_START"] = json.dumps(times)
    privileges.replace_process(["-m", "worker"], environ)


def comfyui_command(folder: Path) -> str:
    """Return the command that starts ComfyUI from an unpacked environment."""
    home = folder / COMFYUI
    return (
        f"env PYTHONPATH={folder / PACKAGES} {sys.executable} {home / 'main.py'} "
        f"--disable-auto-launch --front-end-root {home / 'no-frontend'}"
    )


def provide(need: Need, actions: RuntimeActions, environ: Mapping[str, str]) -> Path:
    """Return an environment's folder on this disk; wait for it, or take the job that builds it.

    Raises:
        ComfyformError: this image cannot use it.
        OSError: the disk could not take it.
    """
    store = actions.store
    while True:
        path = locate(need, store)
        if path is not None:
            sha256 = path.name.partition(".")[0]
            folder = Path(bootstrap.DISK, "environments", sha256[:16])
            try:
                bootstrap.unpack(str(path), sha256, str(folder), archives.opener(path.name))
                return folder
            except bootstrap.Damaged as error:
                bootstrap.remove_damaged(str(path), error)
            continue
        if environ.get("COMFYFORM_ROLE") == "ops":
            bootstrap.serve(
                lambda job, report: take(job, report, actions), lambda: locate(need, store) is not None
            )
        elif not bootstrap.wait_for(lambda: locate(need, store) is not None):
            bootstrap.refuse(bootstrap.ABSENT)


def locate(need: Need, store: RuntimeStore) -> Path | None:
    """Return where an environment's archive lies, if this Python can use it.

    Raises:
        NotSupported: the endpoint names an archive that was built for another Python.
    """
    record = store.record(need.key)
    if record is not None and (record["python"], record["platform"]) != (python_version(), platform_name()):
        if need.sha256 is None:
            return None  # to be built again, for this image
        raise NotSupported(
            f"The {need.kind} environment was built for Python {record['python']} on {record['platform']}, "
            f"this image has {python_version()} on {platform_name()}.",
            hint="Use base images with the same Python for both endpoints.",
        )
    if record is not None and (problem := torch_problem(record)):
        raise NotSupported(problem, hint="Name the base image's torch in comfyui.toml, and lock against it.")
    if need.sha256 is not None:
        return store.find_archive(need.key, need.sha256)
    return store.archive(record) if record is not None else None


def torch_problem(record: EnvironmentRecord) -> str | None:
    """Say what is wrong where an environment leaves torch to the base image, and its torch is another."""
    if record["torch"] is None or "torch" in record["packages"]:
        return None
    needed = f"The environment was locked against torch {record['torch']}"
    try:
        version = importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return f"{needed}, and torch was not found in this image."
    if version == record["torch"]:
        return None
    return f"{needed}, this image has {version}."


def take(job: Mapping[str, Any], report: Report, actions: RuntimeActions) -> Mapping[str, Any]:
    """Do a job of the ops endpoint before its environment is there."""
    action = str(job.get("action"))
    if action not in ("install", "build_environment", "runtime", "runtime_prune"):
        raise NotSupported(f"{bootstrap.ABSENT} (the ops environment was not found)")
    return actions.run(action, job, report)


if __name__ == "__main__":
    main()
