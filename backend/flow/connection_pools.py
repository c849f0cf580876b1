"""httpcore, which is under httpx, made fit for crowds and for large files.

It looks at every connection of a pool with every request, so that a pool's
work grows with the square of the requests in flight: a hundred at once cost
seconds. Several small pools do the same work in a moment.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

BUSY: Final = 2
"""Requests in flight that make a pool count as busy."""
MOST: Final = 64
READ_BYTES: Final = 512 * 1024


class Spread:
    """A transport of httpx over several pools of either kind, sync or async.

    The first pool that is not busy takes a request, so that few requests share few connections.

    Args:
        make: makes a pool, an httpx transport.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._pools: list[Any] = []
        self._busy: list[int] = []

    def handle_request(self, request: Any) -> Any:
        """Send a request through a pool of the sync kind."""
        with self._chosen() as pool:
            return pool.handle_request(request)

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request through a pool of the async kind."""
        with self._chosen() as pool:
            return await pool.handle_async_request(request)

    def close(self) -> None:
        """Close the pools of the sync kind."""
        for pool in self._pools:
            pool.close()

    async def aclose(self) -> None:
        """Close the pools of the async kind."""
        for pool in self._pools:
            await pool.aclose()

    @contextmanager
    def _chosen(self) -> Iterator[Any]:
        with self._lock:
            index = self._choose()
            self._busy[index] += 1
        try:
            yield self._pools[index]
        finally:
            with self._lock:
                self._busy[index] -= 1

    def _choose(self) -> int:
        for index, busy in enumerate(self._busy):
            if busy < BUSY:
                return index
        if len(self._pools) < MOST:
            self._pools.append(self._make())
            self._busy.append(0)
            return len(self._pools) - 1
        return self._busy.index(min(self._busy))


def read_widely() -> None:
    """Let httpcore take more from a socket at once than its 64 KiB: for model files, half the time a byte.

    It has no option for it; should this name go away, only the speed is lost.
    """
    with suppress(ImportError, AttributeError):
        from httpcore._sync.http11 import HTTP11Connection

        HTTP11Connection.READ_NUM_BYTES = max(READ_BYTES, HTTP11Connection.READ_NUM_BYTES)
