"""Two ways to get a Pulumi CLI into comfyform's cache: the official installer, and a build from Go modules.

Both write aside and rename, so that a folder that is there is whole; neither
touches ``~/.pulumi`` or ``PATH``. Which way is taken, and when, is
decided in ``infra.engine.pulumi_cli``.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pulumi._version import version as sdk_version

TOOLS: Final = Path(__file__).resolve().parents[2] / "tools"
INSTALL_VERSION: Final = str(sdk_version)
"""The CLI that the official installer is asked for: the SDK's own version."""
BUILD_VERSION: Final = "3.259.0"
"""The CLI that ``tools/pulumi`` builds."""
LANGUAGE_HOST_VERSION: Final = "3.79.0"
"""The last sdk that carries the Python language host's package."""
BUILD_MINUTES: Final = 3

_SDK: Final = "github.com/pulumi/pulumi/sdk/v3"
_CLI: Final = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
_HOST: Final = f"{_SDK}/python/cmd/pulumi-language-python"


class WayFailed(Exception):
    """This way to a CLI is closed; the text is one line that says why."""


def install(folder: Path) -> None:
    """Let Pulumi's official installer put the CLI into ``folder``/bin.

    Raises:
        WayFailed: no network, or the installer says no.
    """
    from pulumi.automation import PulumiCommand

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # the SDK's download has no limit of its own
    try:
        with _aside(folder) as work:
            PulumiCommand.install(root=str(work))
    except subprocess.CalledProcessError as error:
        said = (error.output or b"").decode(errors="replace").strip().splitlines()
        raise WayFailed(said[-1] if said else f"it exited with {error.returncode}") from error
    except (OSError, RuntimeError) as error:
        raise WayFailed(_one_line(error)) from error
    finally:
        socket.setdefaulttimeout(before)


def build(folder: Path) -> None:
    """Build the CLI and its Python language host from ``tools/`` into ``folder``/bin. Takes minutes.

    Raises:
        WayFailed: no Go, no module proxy, or a compiler error.
    """
    if shutil.which("go") is None:
        raise WayFailed("`go` not found on PATH")
    if not (TOOLS / "pulumi" / "go.mod").exists():
        raise WayFailed(f"{TOOLS / 'pulumi'} is missing: this is not a checkout")
    with _aside(folder) as work:
        target = work / "bin"
        target.mkdir()
        stamp = f"{_SDK}/go/common/version.Version"
        _go(
            TOOLS / "pulumi-language-python",
            *("build", "-trimpath", "-ldflags", f"-s -w -X {stamp}=v{LANGUAGE_HOST_VERSION}"),
            *("-o", str(target / "pulumi-language-python"), _HOST),
        )
        _go(
            TOOLS / "pulumi",
            *("build", "-trimpath", "-tags", "osusergo,grpcnotrace"),
            *("-ldflags", f"-s -w -X {stamp}=v{BUILD_VERSION}"),
            *("-o", str(target / "pulumi"), _CLI),
        )
        # The language host looks for its scripts beside itself; they come with the CLI's own sdk.
        sdk = Path(_go(TOOLS / "pulumi", "list", "-m", "-f", "{{.Dir}}", _SDK).strip()) / "python"
        for script in (
            sdk / "cmd" / "pulumi-language-python-exec",
            sdk / "dist" / "pulumi-resource-pulumi-python",
        ):
            shutil.copyfile(script, target / script.name)
            (target / script.name).chmod(0o755)


def _go(module: Path, *arguments: str) -> str:
    """Run ``go`` in a module, behind everything else that the machine does."""
    command = ["go", *arguments]
    if shutil.which("nice"):
        command = ["nice", "-n", "10", *command]
    done = subprocess.run(
        command,
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line and not line.startswith("go: downloading")]
        raise WayFailed(said[-1] if said else f"go {arguments[0]} exited with {done.returncode}")
    return done.stdout


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place when the block succeeds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_over in folder.parent.glob(f".{folder.name}-*"):  # of a build that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield work
        work.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
