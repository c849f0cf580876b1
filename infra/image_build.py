"""Build and push the two images with docker, podman or buildah, whichever works on this machine.

Docker and podman take the same arguments; buildah builds without a daemon, also where neither runs.
``inv images.build`` calls the functions. The stack's command resource runs the module as a program:
``python3 -m infra.image_build worker ghcr.io/you/worker 0123abcd`` builds and pushes an image and prints
its digest.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from backend.errors import ComfyformError, ConfigError

PLATFORM: Final = "linux/amd64"
"""The only one that RunPod runs. Source: docs.runpod.io, serverless/workers, read 2026-08-20."""
DOCKERFILES: Final = {"worker": "worker/Dockerfile", "ops": "worker/Dockerfile.ops"}
SHIPPED: Final = ("backend", "ops", "worker", "pyproject.toml")
"""What the images contain; a change to it builds them again."""
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


def fingerprint(paths: Iterable[Path]) -> str:
    """Hash files and folders by relative name and content; Python's compiled files do not count."""
    whole = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                name = str(file.relative_to(path.parent))
                whole.update(f"{len(name)}:{name}:{file.stat().st_size}:".encode())
                whole.update(file.read_bytes())
    return whole.hexdigest()


def content_tag(project: Path) -> str:
    """Name the version of the images that a checkout builds: a hash of what they contain."""
    return fingerprint(project / part for part in SHIPPED)[:16]


def build(builder: str, image: str, reference: str, project: Path, *, base: str = "") -> None:
    """Build one image; the builder's own progress goes to stderr.

    Args:
        builder: from `find_builder`.
        image: ``worker`` or ``ops``.
        reference: name and tag. The tag is also the version that the worker reports.
        project: the checkout that is built.
        base: another base image than the Dockerfile's.

    Raises:
        ConfigError: the builder failed; its own output says why.
    """
    dockerfile = DOCKERFILES[image]
    arguments = {"COMFYFORM_BUILD": reference.rpartition(":")[2]} | ({"BASE": base} if base else {})
    # Only buildah keeps no layers unless it is told to; with them an unchanged step is not repeated.
    options = ["--layers"] if builder == "buildah" else []
    options += ["--platform", PLATFORM, "--file", dockerfile, "--tag", reference]
    options += [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    _run([builder, "build", *options, "."], project, failed=f"{builder} could not build {dockerfile}")


def push(builder: str, reference: str) -> str:
    """Push an image and return its digest in the registry (``sha256:…``).

    Raises:
        ConfigError: the builder failed; its own output says why.
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


def main(arguments: list[str]) -> int:
    """Build and push one image, and print its digest.

    Args:
        arguments: ``worker`` or ``ops``, the repository without a tag, and the tag.

    Returns:
        The exit code.
    """
    image, repository, tag = arguments
    reference = f"{repository}:{tag}"
    try:
        builder = find_builder()
        build(builder, image, reference, Path.cwd())
        digest = push(builder, reference)
    except ComfyformError as error:
        sys.stderr.write("\n".join(filter(None, (f"error: {error}", error.hint))) + "\n")
        return error.exit_code
    sys.stdout.write(f"{digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
