"""A few threads that work ahead of a consumer, in order, and never far ahead: so memory stays bounded.

Unlike an executor's, these threads are daemons. Whoever stops waiting, after
Ctrl-C above all, is not held up by a read that has some seconds to go.

A crew made in a thread of another is stopped with it: Ctrl-C reaches the main
thread only, and files that move some at a time have crews of their own.
"""

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

_FAREWELL_S: Final = 5.0
"""How long a failure waits for the other threads to notice; Ctrl-C does not wait."""

_LOOK_S: Final = 0.1
"""How often whoever takes results looks whether the crew above was stopped."""

T = TypeVar("T")
R = TypeVar("R")

_here: Final = threading.local()
"""``crew``: the one whose thread this is."""


def pause(seconds: float) -> None:
    """Wait, in any thread.

    Raises:
        KeyboardInterrupt: the crew whose thread this is was stopped meanwhile.
    """
    crew: Crew[Any, Any] | None = getattr(_here, "crew", None)
    if crew is None:
        threading.Event().wait(seconds)
        return
    crew.wait(seconds)
    if crew.stopped:
        raise KeyboardInterrupt


def beside(call: Callable[[], R]) -> R:
    """Call in a thread of its own, so that whoever waits for the answer can be stopped.

    Raises:
        KeyboardInterrupt: the crew whose thread this is was stopped meanwhile.
    """
    with Crew(lambda _crew, _task: call(), [None], threads=1, ahead=1) as crew:
        return crew.take()


class Crew(Generic[T, R]):
    """Does ``work`` on each task with some threads; results are taken in the tasks' order.

    Args:
        work: called in a thread with this crew and a task. It should look at `stopped` now and then
            and end early.
        tasks: in the order in which they will be taken.
        threads: how many work at once.
        ahead: how many tasks may be begun and not yet taken.
    """

    def __init__(
        self, work: Callable[["Crew[T, R]", T], R], tasks: Iterable[T], *, threads: int, ahead: int
    ) -> None:
        self._work = work
        self._tasks = iter(tasks)
        self._results: dict[int, R | BaseException] = {}
        self._begun = self._taken = 0
        self._room = threading.Semaphore(ahead)
        self._order = threading.Lock()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._above: Crew[Any, Any] | None = getattr(_here, "crew", None)
        self._threads = [threading.Thread(target=self._labour, daemon=True) for _ in range(threads)]

    @property
    def stopped(self) -> bool:
        """True when results are no longer needed, here or in the crew above."""
        return self._stop.is_set() or (self._above is not None and self._above.stopped)

    def stop(self) -> None:
        """Let the threads end as soon as they look."""
        self._stop.set()
        for _ in self._threads:
            self._room.release()

    def wait(self, seconds: float) -> None:
        """Wait, or until the crew is stopped."""
        self._stop.wait(seconds)

    def join(self, seconds: float) -> None:
        """Return the threads so long to end; those that do not are left behind."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def take(self) -> R:
        """Return the next result, or raise what its work raised.

        Raises:
            KeyboardInterrupt: the crew above was stopped.
        """
        with self._changed:
            number, above = self._taken, self._above
            look_s = None if above is None else _LOOK_S
            while not self._changed.wait_for(lambda: number in self._results, look_s):
                if above is not None and above.stopped:
                    raise KeyboardInterrupt
            result = self._results.pop(number)
            self._taken += 1
        self._room.release()
        if isinstance(result, BaseException):
            raise result
        return result

    def _labour(self) -> None:
        _here.crew = self
        while True:
            self._room.acquire()
            with self._order:  # not `_changed`: the next task may have to be waited for
                if self.stopped:
                    return
                try:
                    task = next(self._tasks)
                except StopIteration:
                    # The room that this thread took is what the next one needs to see the end as well.
                    self._room.release()
                    return
                number = self._begun
                self._begun += 1
            result: R | BaseException
            try:
                result = self._work(self, task)
            except BaseException as error:  # noqa: BLE001 - raised again where it is taken
                result = error
            with self._changed:
                self._results[number] = result
                self._changed.notify_all()

    def __enter__(self) -> "Crew[T, R]":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None or isinstance(error, Exception):
            self.join(_FAREWELL_S)
