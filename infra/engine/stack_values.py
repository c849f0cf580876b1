"""Reads a stack's configuration by asking Pulumi, so that ``./inv`` and the program see the same values.

Pulumi adds the project's namespace and its defaults, and turns numbers into text by rules of its own.
A stack that does not exist yet is read in a scratch project: a copy of its two files, with a state in a
temporary folder.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backend.errors import ComfyformError
from infra.engine.pulumi_cli import first_line
from infra.engine.pulumi_project import Project

if TYPE_CHECKING:
    from infra.engine.stacks import Stack

_ABSENT: Final = "no stack named"
_ENCRYPTION: Final = re.compile(rb"(?m)^(encryptionsalt|encryptedkey|secretsprovider):.*$")


@dataclass(frozen=True, slots=True)
class Values:
    """The configuration of a stack.

    Attributes:
        entries: ``namespace:key`` → Pulumi's entry: ``value`` (absent where a secret is closed), ``secret``.
        source: name of the file that it is written in.
        written: the stack or its file exists.
    """

    entries: Mapping[str, Mapping[str, Any]]
    source: str
    written: bool = True

    def texts(self) -> dict[str, str]:
        """Key → text, as the program gets it; closed secrets are missing."""
        return {key: str(entry["value"]) for key, entry in self.entries.items() if "value" in entry}

    def closed(self) -> frozenset[str]:
        """Keys of secrets that are set and were not decrypted."""
        return frozenset(key for key, entry in self.entries.items() if "value" not in entry)


def read(stack: "Stack", *, opened: bool) -> Values:
    """Read a stack's configuration.

    Args:
        stack: it need not exist.
        opened: decrypt secrets.

    Raises:
        ComfyformError: Pulumi cannot read it.
    """
    file = stack.project.config_file(stack.name)
    entries = _ask(stack, opened)
    if entries is not None:
        return Values(entries, file.name)
    with tempfile.TemporaryDirectory(prefix="comfyform-stack-") as folder:
        scratch = _scratch(stack, Path(folder), opened)
        return Values(_ask(scratch, opened) or {}, file.name, written=file.exists())


def _ask(stack: "Stack", opened: bool) -> dict[str, Any] | None:
    """Ask the CLI; None where the stack does not exist."""
    arguments = [
        "config",
        "--json",
        "--stack",
        stack.environ["PULUMI_STACK"],
        *(["--show-secrets"] if opened else []),
    ]
    done = stack.run(*arguments, capture=True)
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found
    if _ABSENT in done.stderr:
        return None
    raise _unreadable(stack, done.stderr)


def _scratch(stack: "Stack", folder: Path, opened: bool) -> "Stack":
    """Make a stack of the same name and configuration, which ends with its folder."""
    state = folder / "state"
    state.mkdir()
    ours = stack.project
    for name in ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json"):
        if (ours.folder / name).is_file():
            shutil.copyfile(ours.folder / name, folder / name)
    project = Project(folder, ours.name, folder / ours.config_folder.relative_to(ours.folder))
    project.config_folder.mkdir(parents=True, exist_ok=True)
    environ = {
        **stack.environ,
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_STACK": stack.name,
    }
    written = ours.config_file(stack.name)
    if written.is_file():
        text = written.read_bytes()
        project.config_file(stack.name).write_bytes(text if opened else _ENCRYPTION.sub(b"", text))
    if not opened:
        environ["PULUMI_CONFIG_PASSPHRASE"] = ""
        environ.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
    scratch = replace(stack, environ=environ, project=project)
    done = scratch.run("stack", "init", stack.name, capture=True)
    if done.returncode:
        raise _unreadable(stack, done.stderr)
    return scratch


def _unreadable(stack: "Stack", stderr: str) -> ComfyformError:
    return ComfyformError(f"The configuration of stack {stack.name!r} cannot be read: {first_line(stderr)}")
