"""Build a Python environment from its hash lock: install, compile, try, pack, record."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from backend.contract import EnvironmentRecord
from backend.errors import InvalidArgument, NotSupported, TransferError
from ops.runtime.environment_key import environment_key, read_sources
from worker import sources
from worker.runtime.runtime_store import RuntimeStore

Report = Callable[[Mapping[str, Any]], object]

PACKAGES: Final = "packages"
"""Folder of an environment that goes onto PYTHONPATH."""
COMFYUI: Final = "ComfyUI"
"""Folder of a generation environment that holds ComfyUI with its packs."""
LOG_LINES: Final = 12
_INHERITED: Final = re.compile(
    r"PATH|HOME|LANG|LC_ALL|TMPDIR|(PIP|SSL)_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(HTTPS?|NO|ALL)_PROXY",
    re.IGNORECASE,
)
"""Variables that pip may see: a source build runs other people's code, which must not read our keys."""


_FETCH: Final = """
import subprocess, sys
from pathlib import Path
from worker.sources import Source, fetch
try:
    fetch(Source(*sys.argv[2:]), Path(sys.argv[1]))
except (OSError, subprocess.CalledProcessError) as error:
    sys.exit(str(error))
"""
_BUILDING: Final = threading.Lock()


class EnvironmentBuilder:
    """Builds the environments of one version of the code.

    Attributes:
        code: folder with the code, whose locks decide what is installed.
        store: where archives and records go.
        environ: the worker's variables; COMFYFORM_SOURCES_URL stands for ``https://github.com/``.
    """

    def __init__(self, code: Path, store: RuntimeStore, environ: Mapping[str, str]) -> None:
        self.code = code
        self.store = store
        self.sources_url = environ.get("COMFYFORM_SOURCES_URL", "")
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
        # A worker takes several jobs at once; the second one finds what the first has built.
        with _BUILDING:
            return self._build(kind, key, base, report)

    def _build(self, kind: str, key: str, base: str, report: Report) -> EnvironmentRecord:
        """Build an environment, unless it is there."""
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
            if kind == "generation":
                self._tell(report, "sources", 75)
                self._fetch_sources(target / COMFYUI)
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
                    "torch": self._torch(kind, target / PACKAGES),
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
        command += [f"--no-binary={','.join(names)}"] if (names := self._source_builds(kind)) else []
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

    def _source_builds(self, kind: str) -> list[str]:
        """Return the packages that have no wheel: building them runs their code, so each one is named."""
        return list(self._pins().get("packages", {}).get("source_builds", ())) if kind == "generation" else []

    def _pins(self) -> dict[str, Any]:
        """Read what the generation environment pins besides packages."""
        path = self.code / "worker" / "comfyui.toml"
        return sources.read(path) if path.is_file() else {}

    def _torch(self, kind: str, folder: Path) -> str | None:
        """Return the torch that an environment has, or that it needs its base image to have."""
        base: str | None = self._pins().get("base", {}).get("torch") if kind == "generation" else None
        return packages(folder).get("torch", base)

    def _fetch_sources(self, target: Path) -> None:
        """Fetch ComfyUI and its packs at their commits, without git's own folders."""
        pins = self._pins()
        for source in sources.sources(pins):
            arguments = (str(target / source.folder), *source)
            environ = self.environ | {"PYTHONPATH": str(self.code), **self._git_address()}
            list(self._run(f"git ({source.name})", [sys.executable, "-P", "-c", _FETCH, *arguments], environ))
        for path in target.rglob(".git"):
            # A submodule's is a file.
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if "comfyui" in pins:
            (target / "no-frontend").mkdir(exist_ok=True)
            (target / "no-frontend" / "README").write_text("ComfyUI starts without a user interface.\n")

    def _git_address(self) -> dict[str, str]:
        """Return git's configuration where the sources come from another address than GitHub's."""
        if not self.sources_url:
            return {}
        name = f"url.{self.sources_url}.insteadOf"
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": name,
            "GIT_CONFIG_VALUE_0": "https://github.com/",
        }

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
        # Without the folder's name, which is another one in each build: the same sources give the same bytes.
        subprocess.run(
            [*command, "-s", str(folder), str(folder)], env=self.environ, check=False, capture_output=True
        )

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
