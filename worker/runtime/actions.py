"""The runtime actions: what keeps the code and the environments on the volume. The same in both stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.errors import InvalidArgument, NotSupported
from worker.runtime import bootstrap
from worker.runtime.environment_build import EnvironmentBuilder, Report
from worker.runtime.runtime_store import RuntimeStore, is_sha256

CODE_FOLDER = Path(__file__).parents[2]
"""The folder with backend, ops and worker that this program runs from."""


class RuntimeActions:
    """Does the runtime actions on one volume."""

    def __init__(self, volume: Path, environ: Mapping[str, str]) -> None:
        self.store = RuntimeStore(volume / ".comfyform" / "runtime")
        self._environ = environ
        self._builder = EnvironmentBuilder(CODE_FOLDER, self.store, environ)

    def run(self, action: str, params: Mapping[str, Any], report: Report) -> dict[str, Any]:
        """Do an action and return its part of the answer.

        Raises:
            InvalidArgument: a field is missing or of the wrong form.
            ComfyformError: it could not be done.
        """
        match action:
            case "install":
                return self._install(params)
            case "build_environment":
                texts = {name: _text(params, name) for name in ("kind", "key", "base")}
                return {"environment": self._builder.build(**texts, report=report)}
            case "runtime":
                return {"runtime": self.store.listing(hash=params.get("hash") is True)}
            case "runtime_prune":
                return {"removed": self.store.prune(self._keep(params))}
        raise NotSupported(f"{action} is not a runtime action.")

    def _install(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a code archive; it runs only where an endpoint's environment names its sha256."""
        for name in ("sha256", "archive"):
            _text(params, name)
        if not is_sha256(params["sha256"]):
            raise InvalidArgument(f"'sha256' must be 64 lowercase hex digits, got {params['sha256']!r}.")
        try:
            return bootstrap.install(params, self.store.root)
        except ValueError as error:
            raise InvalidArgument(f"{error}.") from error

    def _keep(self, params: Mapping[str, Any]) -> set[str]:
        """Read which names to keep; what this worker runs from is always among them."""
        names = params.get("keep")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidArgument("'keep' must be a list of the sha256 of code and keys of environments.")
        own = ("COMFYFORM_CODE", "COMFYFORM_ENVIRONMENT", "COMFYFORM_OPS_ENVIRONMENT")
        return {*names, *(self._environ[name] for name in own if name in self._environ)}


def _text(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"{name!r} must be a text, got {value!r}.")
    return value
