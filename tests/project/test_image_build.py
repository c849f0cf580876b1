"""Images are built with the builder that works here; a built ops image answers a job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.errors import ConfigError
from infra import image_build
from tests.support import image_container
from tests.support.emulation import running_emulator
from tests.support.worker_endpoint import Studio

ROOT = Path(__file__).resolve().parents[2]
BASE = os.environ.get("COMFYFORM_TEST_IMAGE_BASE", "")
BUILDAH = ("BUILDAH_ISOLATION", "STORAGE_DRIVER", "CONTAINERS_STORAGE_CONF")


def program(folder: Path, name: str, script: str) -> None:
    """Put a program on the PATH that the test has set."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with nothing but this folder, and what /bin/sh needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_docker_without_its_daemon_is_passed_over(programs):
    """Docker comes first, but only where its daemon answers."""
    program(programs, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    program(programs, "buildah", "exit 0")

    assert image_build.find_builder() == "buildah"


def test_without_a_builder_the_error_says_what_each_one_answered(programs):
    program(programs, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    with pytest.raises(ConfigError) as error:
        image_build.find_builder()

    assert "docker does not work: Cannot connect to the Docker daemon" in str(error.value)
    assert "podman is not installed; buildah is not installed" in str(error.value)
    assert "apt-get install buildah" in str(error.value.hint)


@pytest.mark.parametrize("builder", ["podman", "buildah"])
def test_a_push_returns_the_digest_of_the_registry(programs, builder):
    """Both write it into the file that they are given."""
    program(programs, builder, '[ "$1 $2" = "push --digestfile" ] && printf sha256:abc > "$3"')

    assert image_build.push(builder, "you/comfyform-ops:1") == "sha256:abc"


def test_a_failed_build_says_which_file_and_which_builder(programs):
    program(programs, "podman", "exit 125")

    with pytest.raises(ConfigError, match=r"podman could not build worker/Dockerfile\.ops \(exit code 125\)"):
        image_build.build("podman", "ops", "ops:1", programs)


BUILDERS = {
    "docker": """case "$1 $2" in
"push you/ops:0123") echo pushing ;;
"buildx imagetools") echo sha256:abc ;;
esac""",
    "podman": """case "$1" in
push) echo pushing; printf sha256:abc > "$3" ;;
esac""",
}
BUILDERS["buildah"] = BUILDERS["podman"]


@pytest.mark.parametrize("builder", BUILDERS)
def test_the_stacks_command_builds_with_each_builder_and_prints_only_the_digest(programs, builder):
    """What the command resource runs, in a shell as Pulumi does; the builder's output stays out of it."""
    calls = programs / "calls"
    program(programs, builder, f"echo \"$@\" >> '{calls}'\n{BUILDERS[builder]}")
    program(programs, "python3", f"exec '{sys.executable}' \"$@\"")

    command = "python3 -m infra.image_build ops you/ops 0123"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "sha256:abc\n"), done.stderr
    build = next(line for line in calls.read_text().splitlines() if line.startswith("build "))
    assert "--platform linux/amd64 --file worker/Dockerfile.ops --tag you/ops:0123" in build
    assert "--build-arg COMFYFORM_BUILD=0123" in build


def test_the_stacks_command_without_a_builder_says_what_to_install(programs):
    program(programs, "python3", f"exec '{sys.executable}' \"$@\"")

    command = "python3 -m infra.image_build ops you/ops 0123"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (ConfigError.exit_code, "")
    assert "buildah is not installed" in done.stderr
    assert "apt-get install buildah" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_ops_image_is_built_and_its_worker_answers_a_job(tmp_path):
    """The real Dockerfile, the real builder, and the worker in its container behind the emulated queue."""
    try:
        builder = image_build.find_builder()
    except ConfigError as error:
        pytest.skip(str(error))
    if builder != "docker" and not BASE:
        pytest.skip("COMFYFORM_TEST_IMAGE_BASE names no local image with Python 3.12 to build on")
    reference = "localhost/comfyform-ops:test"
    command = [sys.executable, "-m", "invoke", "images.build", "--only", "ops", "--tag", "test"]
    command += ["--repository", "localhost/comfyform", *(["--base", BASE] if BASE else [])]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    assert built.stdout == f"comfyform:ops_image: {reference}\n"

    # The emulator's workers have an environment of their own; buildah has its settings in ours.
    settings = " ".join(f"{name}='{os.environ[name]}'" for name in BUILDAH if name in os.environ)
    program = ROOT / "tests/support/image_container.py"
    worker = f"env {settings} '{sys.executable}' '{program}' {builder} {reference}"
    try:
        with running_emulator(tmp_path, images={"comfyform/ops": worker}) as emulator:
            ops = Studio(emulator, "comfyform/ops")
            # The container's user is not ours.
            ops.volume.chmod(0o777)
            answer = ops.output(action="inventory")
    finally:
        if builder == "buildah":
            subprocess.run(["buildah", "rm", image_container.CONTAINER], check=True, capture_output=True)
    assert answer["inventory"] == []
    assert answer["worker_version"].endswith("+test")
