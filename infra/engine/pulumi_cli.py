"""Finds a Pulumi CLI, or gets one, and runs it with an environment that works.

The ways, in order: the one on ``PATH``; one that an earlier run kept in the
user's cache folder; the official installer; a build from the Go modules in
``tools/``. What was tried and why it failed is said on stderr, one line a way.
"""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs
from filelock import FileLock

from backend.errors import ComfyformError
from infra.engine import orphan_processes
from infra.engine.pulumi_install import (
    BUILD_MINUTES,
    BUILD_VERSION,
    INSTALL_VERSION,
    WayFailed,
    build,
    install,
)
from infra.engine.pulumi_project import CHECKOUT
from infra.engine.state_files import state_folder, unlock

logger = logging.getLogger(__name__)

OLDEST: Final = (3, 200, 0)
"""Older engines lack options that we pass (``refresh --run-program``, ``--clear-pending-creates``)."""

Say = Callable[[str], None]


class NoPulumi(ComfyformError):
    """The Pulumi CLI was not found and could not be installed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Pulumi:
    """A Pulumi CLI that answers.

    Attributes:
        program: absolute path of the executable.
        version: for example ``3.259.0``.
        way: where it came from: ``PATH``, ``cache``, ``installer`` or ``build``.
    """

    program: Path
    version: str
    way: str


def say_on_stderr(line: str) -> None:
    """Print a line of talk."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # before there is a console to print to


def find(
    *, say: Say = say_on_stderr, environ: Mapping[str, str] | None = None, cache: Path | None = None
) -> Pulumi:
    """Find a Pulumi CLI, or install one, which can take minutes.

    Args:
        say: gets a line for each way that was tried.
        environ: variables; by default those of this process.
        cache: where kept CLIs are; by default the user's cache folder.

    Raises:
        NoPulumi: every way failed; the message names them all.
    """
    variables = os.environ if environ is None else environ
    kept = cache or _kept()
    failed: list[str] = []
    try:
        return _on_path(variables)
    except WayFailed as error:
        failed.append(f"on PATH: {error}")
    for version in (INSTALL_VERSION, BUILD_VERSION):
        if (found := _in_cache(kept, version)) is not None:
            return found
    kept.mkdir(parents=True, exist_ok=True)
    lock = FileLock(kept / ".lock")
    if _held_elsewhere(lock):
        say(f"Pulumi: another process is installing it (at most {BUILD_MINUTES + 1} minutes); waiting.")
    with lock:
        for way, version, get, takes in (
            ("installer", INSTALL_VERSION, install, "about half a minute, a download of 100 MB"),
            ("build", BUILD_VERSION, build, f"about {BUILD_MINUTES} minutes, once"),
        ):
            if (found := _in_cache(kept, version)) is not None:  # made while we waited for the lock
                return found
            say(f"Pulumi: {failed[-1]}.")
            say(f"Pulumi: trying the {way} ({version}, {takes}) …")
            started = time.monotonic()
            try:
                get(kept / version)
                made = _checked(kept / version / "bin" / "pulumi", way)
            except WayFailed as error:
                failed.append(f"{way}: {error}")
                continue
            say(f"Pulumi: {made.version} is in {kept / version} after {time.monotonic() - started:.0f} s.")
            return made
    raise NoPulumi(
        "Pulumi CLI not found: " + "; ".join(failed) + ".",
        hint=(
            "Options: install it (https://www.pulumi.com/docs/install) and put it on PATH; "
            "or let this machine reach get.pulumi.com; or install Go 1.26 and let it reach a module proxy."
        ),
    )


def locate(environ: Mapping[str, str] | None = None, cache: Path | None = None) -> Pulumi | None:
    """Find a CLI that is there, on PATH or kept by an earlier run; get none."""
    kept = cache or _kept()
    try:
        return _on_path(os.environ if environ is None else environ)
    except WayFailed:
        found = (_in_cache(kept, version) for version in (INSTALL_VERSION, BUILD_VERSION))
        return next((cli for cli in found if cli is not None), None)


def environment(
    pulumi: Pulumi, environ: Mapping[str, str] | None = None, *, data: Path | None = None
) -> dict[str, str]:
    """Return the variables that the CLI needs; what the user has set stays.

    The state goes where ``PULUMI_BACKEND_URL`` or ``PULUMI_ACCESS_TOKEN`` say;
    without them into a folder of comfyform, and only there is the passphrase empty
    (nothing that we keep in a stack is secret: the key comes from the environment).

    Args:
        pulumi: the CLI that will run.
        environ: variables to start from; by default those of this process.
        data: our folder for state; by default the user's data folder.
    """
    source = dict(os.environ if environ is None else environ)
    ours = data or platformdirs.user_data_path("comfyform") / "pulumi"
    # The interpreter's own folder first: the language host and the provider must find this venv.
    folders = [str(Path(sys.executable).parent), str(pulumi.program.parent), source.get("PATH", os.defpath)]
    result = {
        "PULUMI_PYTHON_CMD": sys.executable,
        "PULUMI_HOME": str(ours / "home"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_PARALLEL": "32",
        **source,
        "PATH": os.pathsep.join(folders),
        orphan_processes.MARK: str(os.getpid()),
    }
    if not source.get("PULUMI_BACKEND_URL") and not source.get("PULUMI_ACCESS_TOKEN"):
        stacks = ours / "stacks"
        stacks.mkdir(parents=True, exist_ok=True)
        result["PULUMI_BACKEND_URL"] = stacks.as_uri()
        if "PULUMI_CONFIG_PASSPHRASE_FILE" not in source:
            result.setdefault("PULUMI_CONFIG_PASSPHRASE", "")
    return result


def run(
    pulumi: Pulumi,
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str],
    project: Path = CHECKOUT,
    capture: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the CLI in a project folder.

    Ctrl-C reaches the CLI by the terminal; we wait for it to finish its own
    clean-up before we stop too.

    Args:
        arguments: after ``pulumi``.
        environ: from ``environment``.
        project: the folder of ``Pulumi.yaml``.
        capture: keep stdout and stderr instead of showing them.

    Returns:
        The finished process, whatever its exit code.

    Raises:
        KeyboardInterrupt: there was a Ctrl-C; the CLI has ended, and so has its lock.
        BrokenPipeError: whoever read the CLI's output, and so ours, has gone; the same holds.
    """
    pipe = subprocess.PIPE if capture else None
    start = time.monotonic()
    with _ctrl_c_noted() as interrupted:
        process = subprocess.Popen(
            [str(pulumi.program), *arguments], cwd=project, env=environ, stdout=pipe, stderr=pipe, text=True
        )
        with process:
            out, err = process.communicate()
        took_s = time.monotonic() - start
        logger.debug("%s: exit code %d in %.1f s", _shown(arguments), process.returncode, took_s)
        if not capture:  # once a command: looking at all processes takes 20 ms
            orphan_processes.end()
        unread = process.returncode == -signal.SIGPIPE
        if interrupted.is_set() or unread:
            unlock(state_folder(environ), process.pid)
    if interrupted.is_set():
        raise KeyboardInterrupt
    if unread:
        raise BrokenPipeError
    return subprocess.CompletedProcess(process.args, process.returncode, out or "", err or "")


def _shown(arguments: Sequence[str]) -> str:
    """Write a command for the log, without the values of the configuration that it sets."""
    return " ".join(["pulumi", *(re.sub(r"=.*", "=…", each, flags=re.DOTALL) for each in arguments)])


def first_line(text: str) -> str:
    """First line of what the CLI printed, without its mark for errors."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].removeprefix("error: ") if lines else "no message"


@contextlib.contextmanager
def _ctrl_c_noted() -> Iterator[threading.Event]:
    """Note a Ctrl-C instead of raising it between any two steps; it comes to the main thread only."""
    came = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield came
        return
    signal.signal(signal.SIGINT, lambda _number, _frame: came.set())
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def _kept() -> Path:
    return platformdirs.user_cache_path("comfyform") / "pulumi"


def _on_path(environ: Mapping[str, str]) -> Pulumi:
    program = shutil.which("pulumi", path=environ.get("PATH", os.defpath))
    if program is None:
        raise WayFailed("`pulumi` not found")
    return _checked(Path(program).absolute(), "PATH")


def _in_cache(kept: Path, version: str) -> Pulumi | None:
    try:
        return _checked(kept / version / "bin" / "pulumi", "cache")
    except WayFailed:
        return None


def _checked(program: Path, way: str) -> Pulumi:
    """Ask a CLI for its version, the only thing that is checked about it."""
    try:
        done = subprocess.run(
            [str(program), "version"],
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WayFailed(f"{program} cannot be run: {error}") from error
    text = done.stdout.strip()
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    if done.returncode or found is None:
        raise WayFailed(f"{program} does not print its version")
    version = tuple(int(part) for part in found.groups())
    if version < OLDEST or version[0] != OLDEST[0]:
        raise WayFailed(
            f"{program} is {text}; expected {'.'.join(map(str, OLDEST))} or later of the same major version"
        )
    return Pulumi(program, text.removeprefix("v"), way)


def _held_elsewhere(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except TimeoutError:
        return True
    lock.release()
    return False
