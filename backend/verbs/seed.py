"""The seed of a run: chosen, written into the names of its files, and found again there. Pure."""

import os
import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.verbs.request import Request


def seed_of(request: "Request") -> int:
    """Return the request's seed, or a random one that every node takes."""
    seed: int | None = request["seed"]
    return random.randrange(2**31) if seed is None or seed < 0 else seed  # noqa: S311  # a picture's, no secret


def filename_prefix(request: "Request", seed: int) -> str:
    """Return a name for the files of a run that no other run has.

    Otherwise ComfyUI answers an identical run from its cache, with the names of files that may be gone
    (recording cached_output_after_file_deleted).
    """
    return f"comfyform/{request.verb}_{seed}_{os.urandom(4).hex()}"


def seed_in_prefix(prefix: str) -> int | None:
    """Return the seed in a name that `filename_prefix` gave; None for any other text."""
    found = re.fullmatch(r"comfyform/\w+_(\d+)_[0-9a-f]{8}", prefix)
    return int(found[1]) if found else None
