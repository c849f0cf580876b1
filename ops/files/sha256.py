"""The sha256 of a file, read once in constant memory."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 1024 * 1024


def hash_file(path: str | Path, *, on_bytes: Callable[[int], object] = lambda _done: None) -> str:
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
    done = 0
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path a file is felt in large trees
        # A buffer is filled with zeros first, which takes longer than a small file itself.
        size = os.fstat(file.fileno()).st_size
        buffer = memoryview(bytearray(min(size, _READ_BYTES) or _READ_BYTES))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            done += count
            on_bytes(done)
    return digest.hexdigest()
