"""The planes: which module answers under which prefix, and what paths it has."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from emulator.state import State

MODULES = {
    "/rest/v2": "emulator.rest.app",
    "/jobs/v2": "emulator.jobs.app",
    "/lb": "emulator.load_balancer",
    "/s3": "emulator.s3.app",
    "/hub": "emulator.hub.app",
    "/civitai": "emulator.civitai",
    "/comfyui": "emulator.comfyui.app",
    "/hedra": "emulator.hedra.app",
    "/comfy-api": "emulator.comfy_api.app",
    "/_emulator": "emulator.control.app",
}
"""Prefix → module with `app(state) -> ASGIApp`. A Starlette app's lifespan runs with the emulator's.

A module may also have `control_routes(state) -> list[BaseRoute]`: they are served under `/_emulator<prefix>`.
"""


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane, made for a state."""

    prefix: str
    app: ASGIApp
    control: Sequence[BaseRoute]

    @property
    def globs(self) -> list[str]:
        """Its paths as globs; a plane that is no Starlette app may answer anything."""
        if not isinstance(self.app, Starlette):
            return [f"{self.prefix}*"]
        return [self.prefix + glob for glob in _globs(self.app.routes)]


def load(state: State) -> list[Plane]:
    """Make every plane."""
    found = []
    for prefix, name in MODULES.items():
        module = importlib.import_module(name)
        control = module.control_routes(state) if hasattr(module, "control_routes") else ()
        found.append(Plane(prefix, module.app(state), control))
    return found


def _globs(routes: list[BaseRoute]) -> list[str]:
    found = []
    for route in routes:
        path = getattr(route, "path", "")
        glob = "/".join("*" if "{" in part else part for part in path.split("/"))
        if isinstance(route, Mount):
            found += [glob + inner for inner in _globs(route.routes or [])] or [glob + "/*"]
        else:
            found.append(glob)
    return found
