"""What a container runs: the image's command, and the endpoint's `args` in its place or behind it.

Source: RunPod's own clients, which send `args` as a JSON object with `cmd` and `entrypoint`, or as the words
of a shell (runpod MCP server and SDK, read 2026-11).
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

BASE_IMAGES = ("python", "runpod/base", "runpod/pytorch")
"""Repositories of public images that hold Python and start nothing of their own that serves a queue:
this machine stands for them."""


class BadCommand(ValueError):
    """A start command that no container could run."""


def is_base_image(image: str) -> bool:
    """Tell whether an image, with or without tag and digest, is one that this machine stands for."""
    name = re.sub(r"(:[\w.-]+)?(@sha256:[0-9a-f]{64})?\Z", "", image)
    for registry in ("docker.io/", "library/"):
        name = name.removeprefix(registry)
    return name in BASE_IMAGES


def container_command(image_command: str | None, args: str) -> list[str]:
    """Return the argument list of a container's first process.

    Args:
        image_command: what stands for the image, which counts as its entrypoint; None for a base image.
        args: the endpoint's start command.

    Raises:
        BadCommand: nothing would run, or `args` cannot be read.
    """
    entrypoint = shlex.split(image_command or "")
    command = _decoded(args)
    if "entrypoint" in command:
        entrypoint = command["entrypoint"]
    result = [*entrypoint, *command.get("cmd", [])]
    if not result:
        raise BadCommand("the image starts no worker of its own, and the endpoint has no args")
    return result


def _decoded(args: str) -> dict[str, list[str]]:
    """Decode `args`: a JSON object, or else words."""
    if not args.strip():
        return {}
    if args.lstrip().startswith("{"):
        try:
            document: Any = json.loads(args)
        except ValueError as error:
            raise BadCommand(f"args begins like JSON and is not: {error}") from None
        strange = [
            name
            for name, words in document.items()
            if name not in {"cmd", "entrypoint"}
            or not isinstance(words, list)
            or not all(isinstance(word, str) for word in words)
        ]
        if strange:
            raise BadCommand(f"args takes cmd and entrypoint, lists of texts, not {', '.join(strange)}")
        return dict(document)
    try:
        return {"cmd": shlex.split(args)}
    except ValueError as error:
        raise BadCommand(f"args cannot be split into words: {error}") from None
