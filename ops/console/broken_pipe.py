"""How the programs end when the reader of their output closes it, as in ``./inv --list | head``."""

import contextlib
import os
import select
from collections.abc import Iterator
from typing import Final

ENDED: Final = 141
"""What a shell expects of a program that SIGPIPE ended."""
_STDOUT, _STDERR = 1, 2


@contextlib.contextmanager
def ends_quietly() -> Iterator[None]:
    """End the program without a word, and with SIGPIPE's status, when its reader has gone.

    Python ignores the signal itself, and must: it would also end a program whose server hangs up.

    Raises:
        SystemExit: standard output or standard error was closed by its reader.
    """
    try:
        try:
            yield
        finally:
            # What is buffered goes out here; at the interpreter's end a failure would be printed.
            print(end="", flush=True)  # noqa: T201
    except (BrokenPipeError, BaseExceptionGroup) as error:
        gone = [stream for stream in (_STDOUT, _STDERR) if _unread(stream)]
        if not gone or (isinstance(error, BaseExceptionGroup) and not error.subgroup(BrokenPipeError)):
            raise
        for stream in gone:  # so that the interpreter's last flush of what is still buffered goes well
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        raise SystemExit(ENDED) from None


def _unread(stream: int) -> bool:
    """Tell whether a stream is a pipe whose reader has closed it."""
    poll = select.poll()
    poll.register(stream, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
