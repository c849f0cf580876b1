"""Building and pushing the two images with whichever builder this machine has.

Docker and podman take the same arguments; buildah builds without a daemon, also where neither runs.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from backend.errors import ConfigError
from infra.command_resources import PLATFORM

PROBES: Final = {"docker": ["info"], "podman": ["info"], "buildah": ["info"]}
"""Builder to the arguments that succeed where it can build, in order of preference.

A docker command without its daemon is common, so that a name on the PATH says little.
"""


def find_builder() -> str:
    """Name the first builder that works here.

    Raises:
        ConfigError: none does; says what each one answered.
    """
    answers = []
    for name, arguments in PROBES.items():
        if shutil.which(name) is None:
            answers.append(f"{name} is not installed")
            continue
        done = subprocess.run([name, *arguments], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return name
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        answers.append(f"{name} does not work: {lines[-1]}")
    raise ConfigError(
        f"No program here can build an image: {'; '.join(answers)}.",
        hint="Install one of them: Docker, podman or buildah (apt-get install buildah).",
    )


def build(builder: str, dockerfile: str, reference: str, project: Path, arguments: dict[str, str]) -> None:
    """Build one image; the builder's own progress goes to stderr.

    Raises:
        ConfigError: the builder failed; it has said why.
    """
    # Only buildah keeps no layers unless it is told to; with them an unchanged step is not repeated.
    options = ["--layers"] if builder == "buildah" else []
    options += ["--platform", PLATFORM, "--file", dockerfile, "--tag", reference]
    options += [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    _run([builder, "build", *options, "."], project, failed=f"{builder} could not build {dockerfile}")


def push(builder: str, reference: str) -> str:
    """Push an image and return its digest in the registry (``sha256:…``).

    Raises:
        ConfigError: the builder failed; it has said why.
    """
    failed = f"{builder} could not push {reference}"
    if builder == "docker":
        _run([builder, "push", reference], Path.cwd(), failed=failed)
        form = ["--format", "{{.Manifest.Digest}}"]
        found = subprocess.run(
            [builder, "buildx", "imagetools", "inspect", reference, *form],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        if found.returncode:
            raise ConfigError(f"{failed}: its digest cannot be read back")
        return found.stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        digest = Path(folder, "digest")
        _run([builder, "push", "--digestfile", str(digest), reference], Path.cwd(), failed=failed)
        return digest.read_text(encoding="utf-8").strip()


def _run(command: list[str], folder: Path, *, failed: str) -> None:
    """Run the builder with its output on our stderr: stdout is for the answer."""
    code = subprocess.run(command, cwd=folder, stdout=2, check=False).returncode
    if code:
        raise ConfigError(f"{failed} (exit code {code}).")
