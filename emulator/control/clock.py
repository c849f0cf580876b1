"""The emulator's time."""

from __future__ import annotations

import time


class Clock:
    """Real seconds plus what tests have added."""

    def __init__(self) -> None:
        self.skipped_s = 0.0

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self.skipped_s

    def real(self) -> float:
        """Return seconds since the epoch without skipped time: a skipped hour makes no worker silent."""
        return time.time()

    def advance(self, seconds: float) -> None:
        """Let time pass at once: retention, ttl, time-outs and idle time all see it."""
        self.skipped_s += seconds
