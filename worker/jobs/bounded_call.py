"""Wait for a call that takes no deadline and no stop sign of its own, no longer than the job has time."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from worker.jobs.cancellation import StopSign

T = TypeVar("T")

LOOK_S: Final = 0.2


def bounded_call(call: Callable[[], T], stop: StopSign, end: float) -> T:
    """Make a call in a thread of its own and return its result.

    Args:
        call: a library's, such as an upload. When it is given up, its thread goes on until the library
            ends it.
        stop: the job's.
        end: when the job's time is over, by `time.monotonic`.

    Raises:
        Stopped: the job was stopped.
        TimeoutError: the time is over.
        Exception: what the call raises.
    """
    outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is waited for
            outcome.put((None, error))

    threading.Thread(target=run, name="bounded call", daemon=True).start()
    while True:
        try:
            result, error = outcome.get(timeout=max(0.0, min(LOOK_S, end - time.monotonic())))
        except queue.Empty:
            stop.check()
            if time.monotonic() >= end:
                raise TimeoutError("it took longer than the job has time") from None
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only where the call gives None
