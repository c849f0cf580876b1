"""What ``inv images.build`` does."""

from pathlib import Path
from typing import Final

from backend.errors import InvalidArgument
from infra.image_build import DOCKERFILES, content_tag, find_builder
from infra.image_build import build as build_image
from infra.image_build import push as push_image
from infra.provider_session import NAMESPACE
from ops.console.console import opened

ROOT: Final = Path(__file__).resolve().parents[2]


def build(
    *,
    repository: str = "comfyform",
    tag: str = "",
    only: str = "",
    base: str = "",
    push: bool = False,
    json: bool = False,
) -> int:
    """Build the two images with docker, podman or buildah, and print what the stack's configuration needs.

    Args:
        repository: what the images' names begin with, for example you/comfyform: -worker and -ops are added.
        tag: the images' tag; by default a hash of what they hold.
        only: worker or ops, to build one of them.
        base: another base image with Python 3.12 on Debian, for example a local one.
        push: push the images, and print their digests.
        json: give the references as JSON.

    Raises:
        InvalidArgument: ``only`` names no image.
        ConfigError: no builder works here, or it failed.
    """
    if only and only not in DOCKERFILES:
        raise InvalidArgument(f"only must be {' or '.join(DOCKERFILES)} (got {only!r}).")
    _, console = opened(None, json=json)
    tag = tag or content_tag(ROOT)
    builder = find_builder()
    lines = {}
    for image in [only] if only else ["ops", "worker"]:
        name = f"{repository}-{image}"
        console.say(f"{builder}: building {name}:{tag} from {DOCKERFILES[image]}")
        build_image(builder, image, f"{name}:{tag}", ROOT, base=base)
        key = f"{NAMESPACE}:{image}_image"
        lines[key] = f"{name}@{push_image(builder, f'{name}:{tag}')}" if push else f"{name}:{tag}"
    console.data({"builder": builder, "images": lines})
    for key, reference in lines.items():
        console.text(f"{key}: {reference}")
    if not push:
        console.say(
            "Not pushed. RunPod needs the images in a registry: --push pushes them and prints digests."
        )
    return 0
