"""Waiting for something to happen, by name: what every long poll of the emulator is made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Hashable


class Bells:
    """One bell a name; ringing it wakes everybody who waits for it now."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[asyncio.Future[None]]] = {}
        self.closed = False

    def ring(self, name: Hashable) -> None:
        """Wake all who wait for a name."""
        for waiter in self._waiting.pop(name, []):
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Wake everybody for good: the emulator stops."""
        self.closed = True
        for name in list(self._waiting):
            self.ring(name)

    async def wait(self, timeout_s: float, *names: Hashable) -> None:
        """Wait until one of the bells rings or the time is over, whichever comes first."""
        if timeout_s <= 0 or self.closed:
            return
        waiter = asyncio.get_running_loop().create_future()
        for name in names:
            self._waiting.setdefault(name, []).append(waiter)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiter, timeout_s)
        finally:
            for name in names:
                waiters = self._waiting.get(name, [])
                if waiter in waiters:
                    waiters.remove(waiter)
                if not waiters:
                    self._waiting.pop(name, None)
