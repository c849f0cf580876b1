"""The sha256 of a file, read once, in constant memory."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 1024 * 1024


def hash_file(path: Path, *, on_bytes: Callable[[int], object] = lambda _done: None) -> str:
    """Hash a file.

    Args:
        path: the file.
        on_bytes: called with the bytes done so far, once a MiB.

    Returns:
        Lower-case hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    done = 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            done += count
            on_bytes(done)
    return digest.hexdigest()
