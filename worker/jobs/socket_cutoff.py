"""End a conversation over a socket when its time is over or its job is stopped, also while bytes still come.

A socket's own timeout is one for each read: a server that sends a byte now and then never meets it.
"""

import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

from worker.jobs.cancellation import StopSign

LOOK_S: Final = 0.2
"""How often to look at the clock and the stop sign."""


class OutOfTime(OSError):
    """The conversation took longer than it may."""


class SocketCutoff:
    """Watches sockets within a ``with``, and shuts them down when the time is over or the job is stopped.

    Args:
        stop: the job's.
        end: when the time is over, by `time.monotonic`.
    """

    def __init__(self, stop: StopSign, end: float) -> None:
        self._stop = stop
        self._end = end
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="socket cutoff", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()
        # A read that was cut looks like any other connection that broke.
        if isinstance(error, Exception):
            self.check()

    def watch(self, connected: socket.socket) -> None:
        """Watch this socket from now on."""
        with self._lock:
            self._socket = connected
        self.check()

    def check(self) -> None:
        """Go on, or end.

        Raises:
            Stopped: the job was stopped.
            OutOfTime: the time is over.
        """
        self._stop.check()
        if self._cut or time.monotonic() >= self._end:
            raise OutOfTime("it took longer than the job has time")

    def _watch(self) -> None:
        while not self._left.wait(min(LOOK_S, max(0.0, self._end - time.monotonic()))):
            if self._stop.raised.is_set() or time.monotonic() >= self._end:
                with self._lock:
                    self._cut = True
                    if self._socket is not None:
                        _shut(self._socket)
                        return


def _shut(connected: socket.socket) -> None:
    """End both directions. Not TLS's own way, which another thread may be in the middle of."""
    try:
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
    except OSError:
        return  # it has ended already
