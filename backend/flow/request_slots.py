"""How many requests are in flight at once: as many as the limit on open files allows; the others wait.

macOS gives a process 256 open files by default. A request takes a socket, and
may keep one open for the next and have a file open beside it.
"""

import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # loaded with the first asynchronous request
    import asyncio

RESERVED_FILES: Final = 64
"""Open files that the rest of the program needs: its own, libraries, the journal, name look-ups."""
FILES_PER_REQUEST: Final = 4
"""A socket in use, two that are kept for later requests, and the file that is read or written."""
LEAST: Final = 4
MOST: Final = 1024
"""More at once are no faster for one process."""

_lock = threading.Lock()
_loops: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]" = (
    weakref.WeakKeyDictionary()
)


@cache
def most_at_once() -> int:
    """The number of requests that may be in flight in this process, from its limit on open files."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError):  # Windows counts no files
        return MOST // 4
    if soft == resource.RLIM_INFINITY:
        return MOST
    return min(max((soft - RESERVED_FILES) // FILES_PER_REQUEST, LEAST), MOST)


@cache
def _threads() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(most_at_once())


@contextlib.contextmanager
def slot() -> Iterator[None]:
    """Wait until one more request may be in flight, for a thread."""
    with _threads():
        yield


@contextlib.asynccontextmanager
async def async_slot() -> AsyncIterator[None]:
    """Wait until one more request may be in flight, for a task."""
    import asyncio

    loop = asyncio.get_running_loop()
    with _lock:
        semaphore = _loops.get(loop)
        if semaphore is None:
            semaphore = _loops[loop] = asyncio.Semaphore(most_at_once())
    async with semaphore:
        yield
