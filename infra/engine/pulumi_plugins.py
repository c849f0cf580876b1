"""Is a plugin of Pulumi there? Said before the engine does, with the way to get it."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from backend.errors import ConfigError


def need_plugin(name: str, version: str, *, wanted_by: str, environ: Mapping[str, str] | None = None) -> None:
    """Refuse to go on without a resource plugin that the engine may not fetch itself.

    Args:
        name: for example ``command``.
        version: the one that the Python package asks for, without ``v``.
        wanted_by: what asks for it, to begin the sentence.
        environ: variables; by default those of this process.

    Raises:
        ConfigError: it is not there, and the engine is told not to fetch plugins.
    """
    variables = os.environ if environ is None else environ
    program = f"pulumi-resource-{name}"
    if shutil.which(program, path=variables.get("PATH", os.defpath)):
        return
    home = Path(variables.get("PULUMI_HOME") or Path.home() / ".pulumi")
    if any((folder / program).exists() for folder in (home / "plugins").glob(f"resource-{name}-v*")):
        return
    disabled = variables.get("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "")
    if not re.fullmatch(r"1|true", disabled, re.IGNORECASE):
        return  # the engine fetches it, or says why it cannot
    raise ConfigError(
        f"{wanted_by} needs Pulumi's plugin {name!r}, which is not in {home / 'plugins'}.",
        hint=f"Install it: pulumi plugin install resource {name} v{version}",
    )
