"""Build a Python environment from its hash lock: install, compile, try, pack, record."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from backend.contract import EnvironmentRecord
from backend.errors import InvalidArgument, NotSupported, TransferError
from ops.runtime.environment_key import environment_key, read_sources
from worker.runtime.runtime_store import RuntimeStore

Report = Callable[[Mapping[str, Any]], object]

PACKAGES: Final = "packages"
"""Folder of an environment that goes onto PYTHONPATH."""
LOG_LINES: Final = 12
_INHERITED: Final = re.compile(
    r"PATH|HOME|LANG|LC_ALL|TMPDIR|(PIP|SSL)_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(HTTPS?|NO|ALL)_PROXY",
    re.IGNORECASE,
)
"""Variables that pip may see: a source build runs other people's code, which must not read our keys."""


class EnvironmentBuilder:
    """Builds the environments of one version of the code.

    Attributes:
        code: folder with the code, whose locks decide what is installed.
        store: where archives and records go.
        environ: the worker's variables.
    """

    def __init__(self, code: Path, store: RuntimeStore, environ: Mapping[str, str]) -> None:
        self.code = code
        self.store = store
        self.environ = {name: value for name, value in environ.items() if _INHERITED.fullmatch(name)}

    def build(self, kind: str, key: str, base: str, report: Report) -> EnvironmentRecord:
        """Return the record of an environment; build it where it is missing or damaged.

        Args:
            kind: "ops" or "generation".
            key: its key, as the sender computed it.
            base: the base image, which is part of the key.
            report: takes the progress.

        Raises:
            InvalidArgument: the key is of another version of the code.
            NotSupported: this Python has no pip.
            TransferError: a step failed; the message has the last lines of its log.
        """
        own = environment_key(kind, read_sources(kind, self.code), base)
        if key != own:
            raise InvalidArgument(
                f"another version: this worker's code makes the {kind} environment {own}, got {key}.",
                hint="Send the job again once workers of the new version have started.",
            )
        self._tell(report, "verify", 0)
        record = self.store.verified(key)
        if (
            record is not None
            and record["python"] == python_version()
            and record["platform"] == platform_name()
        ):
            return record
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="environment-") as folder:
            target = Path(folder) / "environment"
            self._install(kind, target / PACKAGES, report)
            self._tell(report, "compile", 80)
            self._compile(target)
            self._tell(report, "try", 88)
            self._try(kind, target / PACKAGES)
            self._tell(report, "pack", 90)
            record = self.store.publish(
                target,
                key,
                {
                    "kind": kind,
                    "base": base,
                    "python": python_version(),
                    "platform": platform_name(),
                    "torch": packages(target / PACKAGES).get("torch"),
                    "packages": packages(target / PACKAGES),
                    "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "seconds": round(time.monotonic() - begin, 1),
                },
            )
        self._tell(report, "done", 100)
        return record

    def _tell(self, report: Report, phase: str, percent: int, message: str = "") -> None:
        event = {"progress": "build_environment", "phase": phase, "percent": percent}
        report(event | ({"message": message} if message else {}))

    def _install(self, kind: str, target: Path, report: Report) -> None:
        """Install a kind's locks into a folder, in one call: a second one would skip folders that exist."""
        locks = [self.code / name for name in read_sources(kind, self.code) if name.endswith(".lock")]
        total = sum(
            len(re.findall(r"^[\w.-]+==", lock.read_text(encoding="utf-8"), re.MULTILINE)) for lock in locks
        )
        target.mkdir(parents=True)
        if not total:
            return
        command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--no-compile"]
        command += ["--only-binary=:all:", "--progress-bar=off", "--disable-pip-version-check", "--no-input"]
        command += ["--root-user-action=ignore", f"--target={target}"]
        command += [] if "PIP_CACHE_DIR" in self.environ else ["--no-cache-dir"]
        command += [part for lock in locks for part in ("-r", str(lock))]
        collected = 0
        for line in self._run("pip", command):
            if line.startswith("Collecting "):
                collected += 1
                self._tell(report, "download", 70 * collected // total, line)
            elif line.startswith("Installing collected"):
                self._tell(report, "install", 70, f"{total} packages")
        # Their first line names this machine's Python.
        shutil.rmtree(target / "bin", ignore_errors=True)

    def _compile(self, folder: Path) -> None:
        """Write bytecode that is not checked against times, because an archive has none."""
        command = [
            sys.executable,
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "--invalidation-mode",
            "unchecked-hash",
        ]
        # Some packages bring templates that are not Python: a failure there is theirs.
        subprocess.run([*command, str(folder)], env=self.environ, check=False, capture_output=True)

    def _try(self, kind: str, target: Path) -> None:
        """Import what a worker imports first, from the new packages alone."""
        if kind == "ops":
            code = "import worker.__main__, worker.actions, runpod"
            environ = self.environ | {"PYTHONPATH": f"{self.code}:{target}", "PYTHONNOUSERSITE": "1"}
            list(self._run("the new environment", [sys.executable, "-P", "-c", code], environ))

    def _run(self, what: str, command: list[str], environ: Mapping[str, str] | None = None) -> Iterator[str]:
        """Run a program and yield its lines; its failure is an error with the last of them."""
        lines: list[str] = []
        try:
            child = subprocess.Popen(
                command,
                env=dict(environ or self.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise NotSupported(f"{what} cannot be started: {error}.") from error
        with child:
            try:
                for line in child.stdout or ():
                    lines = [*lines[1 - LOG_LINES :], line.rstrip()]
                    yield line.strip()
            except BaseException:
                child.kill()
                raise
        if child.returncode:
            if lines and lines[-1].endswith("No module named pip"):
                raise NotSupported(
                    f"{sys.executable} has no pip.", hint="Use a base image with Python and pip."
                )
            raise TransferError(f"{what} failed with exit status {child.returncode}: " + "\n".join(lines))


def python_version() -> str:
    """Return the Python that runs here: ``3.12``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def platform_name() -> str:
    """Return the platform that wheels were chosen for: ``linux-x86_64-glibc``."""
    return f"{sys.platform}-{platform.machine()}-{platform.libc_ver()[0] or 'unknown'}"


def packages(folder: Path) -> dict[str, str]:
    """Return name → version of what is installed in a folder."""
    found = importlib.metadata.distributions(path=[os.fspath(folder)])
    return dict(sorted((item.name, item.version) for item in found))
