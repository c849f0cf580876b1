"""The state of the stack that this provider process works for, read from the CLI.

``pulumi stack export`` needs neither the stack's lock nor its passphrase, and
shows what the engine has written so far. It is asked only when an object is
made or deleted, or when the worker quota may be exceeded: other runs of ``up``
do not pay for it.

Outside a provider process only `recorded` reads the state.
"""

import json
import os
import shutil
import subprocess
import threading
from typing import Any, Final

from pulumi.output import UNKNOWN

from backend.errors import ComfyformError
from backend.flow import Retry
from backend.flow.retry import call_again
from infra.engine import orphan_processes
from infra.ownership import Entry, StackState, creation_name
from infra.provider_hooks import current_request, is_provider_process, wait
from infra.provider_session import Listing

TIMEOUT_S: Final = 60.0
RETRY: Final = Retry(attempts=8, first_s=0.1)
FRESH_S: Final = 1.0
"""How old the state may be that a deletion is decided on; deletions that run at once share one export."""

_lock: Final = threading.Lock()
_first: Final[dict[str, StackState]] = {}
_recent: Final[Listing[StackState]] = Listing(FRESH_S)
_made: Final[set[str]] = set()
_released: Final[set[Entry]] = set()


def name_of_creation(base: str, stack: str = "") -> object:
    """Name the object that the current request will create.

    Args:
        base: how the name begins.
        stack: the stack's full name, where its short one does not identify it.

    Returns:
        The name; unknown in the preview of a stack's first ``up``; the base alone outside a provider process.

    Raises:
        ComfyformError: the state cannot be read.
    """
    request = _request()
    if request is None:
        return base
    state = _at_first(stack)
    if state.identity is None:
        return UNKNOWN
    return creation_name(base, state.identity, request.urn, state.current(request.urn))


def recorded(stack: str) -> StackState | None:
    """Read the state of a stack in any process, for example the Pulumi program.

    Args:
        stack: a name that identifies it for the CLI.

    Returns:
        The state, or None where it cannot be read.
    """
    try:
        return _export(stack)
    except ComfyformError:
        return None


def held(stack: str = "") -> frozenset[str]:
    """Return the ids that no creation may take over: those of the state, and what this process made."""
    if _request() is None:
        return frozenset()
    known = _at_first(stack).ids()
    with _lock:
        return known | _made


def took(id_: str) -> None:
    """Note an object that this process made or took over."""
    with _lock:
        _made.add(id_)


def release(id_: str, stack: str = "") -> list[str]:
    """Give up the current request's hold on an object.

    Returns:
        The URNs of the other resources that hold it; where there are any, it must stay.
    """
    request = _request()
    if request is None:
        return []
    state = _recent.get(stack, lambda: _export(stack))
    with _lock:
        holders = state.holders(id_, but=_released)
        own = next((each for each in holders if each.urn == request.urn), None)
        if own is not None:
            _released.add(own)
        return [each.urn for each in holders if each is not own]


def _request() -> Any:
    """Find the engine's request; None outside a provider process.

    Raises:
        ComfyformError: this is a provider process, and the request does not show: ownership cannot be judged.
    """
    request = current_request()
    if request is None and is_provider_process():
        raise ComfyformError(
            "This version of the pulumi package does not show which resource a request is about.",
            hint="Install the version that pyproject.toml names.",
        )
    return request


def _at_first(stack: str) -> StackState:
    """Return the state as it was when this process first asked."""
    with _lock:
        if stack not in _first:
            _first[stack] = _export(stack)
        return _first[stack]


def _export(stack: str) -> StackState:
    """Read the state.

    Raises:
        ComfyformError: the Pulumi CLI was not found, or it failed.
    """
    name = stack or _request().urn.split(":")[2]
    program = shutil.which("pulumi")
    if program is None:
        raise ComfyformError(
            "pulumi is not on PATH, so the stack's state cannot be read.",
            hint="Put the folder of the pulumi CLI on PATH and run the same command again.",
        )
    command = [program, "stack", "export", "--stack", name, "--non-interactive"]

    def once() -> str:
        done = _run(command, name)
        if done.returncode:
            raise _ExportFailed(name, done.stderr.strip().removeprefix("error: ").partition("\n")[0])
        return done.stdout

    text = call_again(once, RETRY, wait=wait, what=" ".join(command[1:]), when=_was_half_written)
    return StackState.parse(json.loads(text).get("deployment") or {})


class _ExportFailed(ComfyformError):
    """The CLI could not read the state; ``reason`` is the first line of what it said."""

    def __init__(self, stack: str, reason: str) -> None:
        super().__init__(
            f"The state of stack {stack!r} cannot be read: {reason}",
            hint=f"`pulumi stack export --stack {stack}` must work in the project's folder.",
        )
        self.reason = reason


def _was_half_written(error: ComfyformError) -> bool:
    """Tell whether another look may succeed: a state in a folder is written in place."""
    return isinstance(error, _ExportFailed) and "checkpoint" in error.reason


def _run(command: list[str], stack: str) -> subprocess.CompletedProcess[str]:
    """Run the CLI, without the mark of who started it: it must not look like the CLI that runs the engine.

    Raises:
        ComfyformError: it does not start, or does not end.
    """
    variables = {key: value for key, value in os.environ.items() if key != orphan_processes.MARK}
    try:
        return subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ComfyformError(f"The state of stack {stack!r} cannot be read: {error}") from error
