"""How many connections one transfer uses: more of them for as long as more of them bring more.

A hub far away, or one that gives each connection only so much, is read three
times as fast by six as by two; a near one is not, and there they would only
cost memory, and bytes that come again after a kill.
"""

from typing import Final

_SPAN_S: Final = 0.5
"""How long a rate is measured; as long again is waited before, for new connections to get up to speed."""
_BUSY: Final = 0.8
"""Processor seconds a second from which on this machine is the bound, and connections are no help."""
_WORTH: Final = 0.5
"""The least share of what twice the connections could bring at best that they must bring to be kept."""


class Width:
    """Decides on a number of connections. Holds no clock and no connection; used by one thread.

    Args:
        fewest: to begin with, at least 1.
        most: never more than these.
        now: when the transfer begins, in monotonic seconds.
        busy: processor seconds of this process so far.
    """

    def __init__(self, fewest: int, most: int, *, now: float, busy: float) -> None:
        self._width = self._before = fewest
        self._most = most
        self._rate = 0.0
        self._settled = fewest >= most
        self._since = now
        self._busy = busy
        self._came = 0

    def look(self, came: int, *, now: float, busy: float) -> int:
        """Say how many connections to use from now on.

        Args:
            came: bytes that came over all connections since the transfer began.
            now, busy: as before.
        """
        if now < self._since:
            self._came, self._busy = came, busy
        span = now - self._since
        if self._settled or span < _SPAN_S:
            return self._width
        rate, share = (came - self._came) / span, (busy - self._busy) / span
        self._since, self._came, self._busy = now, came, busy
        if not rate:  # what was kept of an earlier run is read first
            return self._width
        more = self._width / self._before - 1
        if more and rate < self._rate * (1 + _WORTH * more):
            self._width, self._settled = self._before, True
            return self._width
        self._before, self._rate = self._width, rate
        if share > _BUSY:
            return self._width
        self._width = min(2 * self._width, self._most)
        self._settled = self._width == self._before
        self._since = now + _SPAN_S
        return self._width
