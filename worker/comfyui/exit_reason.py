"""Say how a process ended, in words that help. Pure."""

import contextlib
import signal
from collections.abc import Sequence


def death(code: int, tail: Sequence[str]) -> str:
    """Say how a process ended, and name the lack of memory where there are signs of it.

    Args:
        code: as subprocess gives it, negative for a signal.
        tail: its last lines.
    """
    text = "\n".join(tail)
    if "OutOfMemoryError" in text or "CUDA out of memory" in text:
        return "it ran out of GPU memory: use a GPU with more, smaller images or a lower min_resolution"
    if code == -signal.SIGKILL:
        return (
            "it was killed (signal 9), most likely because the container ran out of memory: "
            "use a machine with more RAM, or smaller models"
        )
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"


def quoted(lines: Sequence[str]) -> str:
    """Return log lines as the end of a message, or nothing."""
    return f" Its last lines: {' | '.join(line.strip() for line in lines)}" if lines else ""
