"""Run an image as the emulator's worker, in its environment: ``image_container.py BUILDER REFERENCE``.

The container gets the emulator's variables and network, and the volume's folder at its own path.
"""

from __future__ import annotations

import os
import subprocess
import sys

OWN = {"PATH", "HOME", "USER", "PYTHONPATH", "VIRTUAL_ENV", "SHELL", "PWD", "TMPDIR"}
"""Variables of this machine, which mean something else in the container."""
CONTAINER = "comfyform-test-worker"
"""buildah keeps a container after its end, so that the test has to remove it."""


def main(builder: str, reference: str) -> None:
    """Replace this process with the container, so that signals reach it."""
    volume = os.environ["RUNPOD_VOLUME_PATH"]
    options = [f"--volume={volume}:{volume}"]
    options += [f"--env={name}={value}" for name, value in os.environ.items() if name not in OWN]
    if builder == "buildah":
        # A restarted worker begins with a fresh container; the first time there is none to remove.
        subprocess.run(["buildah", "rm", CONTAINER], check=False, capture_output=True)
        subprocess.run(["buildah", "from", "--name", CONTAINER, reference], check=True)
        command = ["buildah", "run", *options, CONTAINER, "--", "python", "-m", "worker"]
    else:
        command = [builder, "run", "--rm", "--network=host", *options, reference]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
