"""The sha256 of bytes: of a file, read once in constant memory, and of a stream that may be cut.

`RunningHash` can be put aside and gone on with by another process, which
``hashlib`` cannot: it asks OpenSSL, the library under ``hashlib``, for the state.
Source: FIPS 180-4, section 6.2; OpenSSL's public ``sha.h`` (``SHA256_CTX``, unchanged since 0.9.8).
"""

import contextlib
import ctypes
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 1024 * 1024
_BLOCK_BYTES: Final = 64
# SHA256_CTX in words of 32 bits: eight of state, two of the length in bits, a block, its fill, the size.
_CONTEXT_WORDS: Final = 28
_LENGTH: Final = 8
_FILL: Final = 26


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


class RunningHash:
    """A sha256 whose state can be kept between processes, at every whole block of 64 bytes.

    Args:
        state: from `state`; empty for a beginning.

    Raises:
        OSError: this Python has no OpenSSL to ask; see `can_run`.
    """

    def __init__(self, state: str = "") -> None:
        library = _openssl()
        if library is None:
            raise OSError("this Python has no OpenSSL")
        self._library = library
        self._context = (ctypes.c_uint32 * _CONTEXT_WORDS)()
        library.SHA256_Init(self._context)
        if state:
            bits, _, words = state.partition(":")
            self._context[_LENGTH], self._context[_LENGTH + 1] = int(bits) & 0xFFFFFFFF, int(bits) >> 32
            for index in range(8):
                self._context[index] = int(words[8 * index : 8 * index + 8], 16)

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes; a memoryview must be of writable memory, as ctypes demands."""
        if isinstance(data, memoryview):
            array = (ctypes.c_char * len(data)).from_buffer(data)
            self._library.SHA256_Update(self._context, array, len(data))
        else:
            self._library.SHA256_Update(self._context, data, len(data))

    def hexdigest(self) -> str:
        """Give the hash of the bytes so far, lower-case hex."""
        context = (ctypes.c_uint32 * _CONTEXT_WORDS)(*self._context)
        digest = (ctypes.c_ubyte * 32)()
        self._library.SHA256_Final(digest, context)
        return bytes(digest).hex()

    def state(self) -> str:
        """Give what `RunningHash` goes on from: bits so far, and the eight words of the standard.

        Raises:
            ValueError: the bytes so far are no whole number of blocks.
        """
        if self._context[_FILL]:
            raise ValueError("a state is kept between blocks of 64 bytes only")
        bits = self._context[_LENGTH] | self._context[_LENGTH + 1] << 32
        return f"{bits}:" + "".join(f"{word:08x}" for word in self._context[:8])


def can_run() -> bool:
    """Tell whether this Python can put a hash aside: it cannot where OpenSSL is built into it, unseen."""
    return _openssl() is not None


@functools.cache
def _openssl() -> ctypes.CDLL | None:
    """Find the OpenSSL that ``hashlib`` uses, and see whether its context is laid out as it is said to be."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import _hashlib

        # Symbols are looked for in what the library was linked against, too.
        library = ctypes.CDLL(_hashlib.__file__)
        library.SHA256_Update.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        context = (ctypes.c_uint32 * _CONTEXT_WORDS)()
        library.SHA256_Init(context)
        library.SHA256_Update(context, bytes(_BLOCK_BYTES + 1), _BLOCK_BYTES + 1)
        if (context[_LENGTH], context[_LENGTH + 1], context[_FILL]) == (8 * (_BLOCK_BYTES + 1), 0, 1):
            return library
    return None
