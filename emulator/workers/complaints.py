"""What is said where the emulator was started when a worker does not run: which, why, and where its log lies.

RunPod says it in the worker's logs, which `rest.worker_logs` streams; here somebody looks at a terminal.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Callable, Sequence

from emulator.state import State
from emulator.workers.fleet import Worker

LINES = 4
"""How many lines of a log are shown."""
_CHANGING = re.compile(r"[\w.:-]*\d[\w.:-]*")
"""A word that may be another the next time although the cause is the same: a time, an id, an address."""


def on_stderr(line: str) -> None:
    """Print a line; the emulator goes on when nobody reads it."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - a program's word to who started it


class Complaints:
    """Says each cause once for an endpoint, however often its workers are started again.

    Args:
        state: knows the endpoints' names.
        say: takes a line, or several.
    """

    def __init__(self, state: State, say: Callable[[str], None] = on_stderr) -> None:
        self._state = state
        self._say = say
        self._said: set[tuple[str, ...]] = set()
        state.on_reset.append(self._said.clear)

    def no_image(self, worker: Worker) -> None:
        """Say that no command stands for a worker's image."""
        self._once(
            worker,
            (worker.image,),
            f"{self._endpoint(worker)} gets no worker: nothing stands for its image {worker.image}. "
            f"Start the emulator with --image {worker.image}=COMMAND.",
        )

    def not_started(self, worker: Worker, error: OSError | ValueError) -> None:
        """Say that a worker's program cannot be started."""
        self._once(
            worker,
            (str(error),),
            f"worker {worker.id} of {self._endpoint(worker)} cannot be started: {error}.",
        )

    def ended(self, worker: Worker, code: int, wrote: Sequence[str]) -> None:
        """Say that a worker's process has ended by itself.

        Args:
            worker: as it was before the end.
            code: the exit status, or the negative number of the signal.
            wrote: the lines that the process wrote.
        """
        how = f"ended with exit status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        when = "while it waited for a job" if worker.ready else "before it asked for a job"
        if worker.jobs:
            when = f"while it had job {', '.join(sorted(worker.jobs))}"
        last = [line for line in wrote if line.strip()][-LINES:]
        log = f". Its log is {worker.log} and ends so:" if last else ", and wrote nothing."
        self._once(
            worker,
            (how, *(_CHANGING.sub("#", line) for line in (when, *last[-1:]))),
            f"worker {worker.id} of {self._endpoint(worker)} {how} {when}{log}",
            *(f"    {line}" for line in last),
        )

    def lost(self, worker: Worker) -> None:
        """Say that a worker asks for a job while it never reported one that it has: that result is lost."""
        self._once(
            worker,
            (worker.id, *sorted(worker.jobs)),
            f"worker {worker.id} of {self._endpoint(worker)} asks for another job and has not reported "
            f"{', '.join(sorted(worker.jobs))}: the result is lost. Its log is {worker.log}.",
        )

    def _endpoint(self, worker: Worker) -> str:
        known = self._state.resources.endpoints.get(worker.endpoint_id)
        return f"endpoint {known.body['name']!r} ({worker.endpoint_id})" if known else worker.endpoint_id

    def _once(self, worker: Worker, cause: tuple[str, ...], sentence: str, *lines: str) -> None:
        known = (worker.endpoint_id, *cause)
        if known not in self._said:
            self._said.add(known)
            self._say("\n".join((f"emulator: {sentence}", *lines)))
