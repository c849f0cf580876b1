"""The public base images of runtime ``volume``: the only place where they are pinned.

Both are Python alone, the image that the Dockerfiles begin with. PyTorch's wheels bring CUDA and cuDNN, so
the generation environment has them, and RunPod's host has the driver. A base image with PyTorch in it would
make that archive 3.5 GB smaller, but none could be pinned by digest and tried without an account.
"""

from typing import Final

OPS: Final = (
    "python:3.12.12-slim-bookworm@sha256:593bd06efe90efa80dc4eee3948be7c0fde4134606dd40d8dd8dbcade98e669c"
)
"""For the worker that looks after the volume."""
GENERATION: Final = OPS
"""For the workers that generate."""
