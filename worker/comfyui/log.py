"""What a process prints: drained all the time, its end kept in memory, the whole in a file.

A pipe without a reader blocks its writer after 64 KiB: that is how a ComfyUI
with progress bars used to hang.
"""

import os
import re
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, NamedTuple

from backend.validation.printable import plain

KEPT_LINES: Final = 400
_PROGRESS_BAR: Final = re.compile(r"\d+%\|.*\| *[\d.?]+\w*/|\d+\w* ?(?:it)? ?\[\d+:\d+(?::\d+)?, ")
"""A line that tqdm redraws."""
LONGEST_LINE: Final = 500
LARGEST_FILE_BYTES: Final = 32 << 20
CONTAINER_LOG_FD: Final = 2


class _Line(NamedTuple):
    """A line that is kept, and whether the supervisor wrote it."""

    text: str
    own: bool


class ProcessLog:
    """The log of one supervised program, through all its restarts."""

    def __init__(self, path: Path, *, echo_fd: int | None = CONTAINER_LOG_FD) -> None:
        """Prepare the log.

        Args:
            path: the file; it starts over when it reaches 32 MiB, so that it can't fill the disk.
            echo_fd: where lines also go, by default the container's log; None for nowhere.
        """
        self.path = path
        self._echo_fd = echo_fd
        self._lines: deque[_Line] = deque(maxlen=KEPT_LINES)
        self._lock = threading.Lock()

    def drain(self, stream: IO[bytes], listener: Callable[[str], object] | None = None) -> threading.Thread:
        """Start to read a stream to its end; the thread ends with the stream.

        Args:
            stream: what the program prints.
            listener: called with every line, without control sequences.
        """
        thread = threading.Thread(target=self._read, args=(stream, listener), name="process-log", daemon=True)
        thread.start()
        return thread

    def note(self, line: str) -> None:
        """Add a line of the supervisor's own."""
        self._add(f"[worker] {line}", own=True)

    def tail(self, lines: int = 20) -> list[str]:
        """List the last lines, oldest first, without control sequences and progress bars."""
        with self._lock:
            return [line.text for line in list(self._lines)[-lines:]]

    def printed(self, lines: int) -> list[str]:
        """List the last lines that the program itself printed, for a message that quotes them."""
        with self._lock:
            return [line.text for line in self._lines if not line.own][-lines:]

    def _read(self, stream: IO[bytes], listener: Callable[[str], object] | None) -> None:
        with stream:
            # A progress bar redraws its line with carriage returns: only its last state is a line.
            for raw in stream:
                text = plain(raw.decode("utf-8", errors="replace").rstrip().rpartition("\r")[2]).rstrip()
                if text:
                    self._add(text)
                if listener is not None:
                    listener(text)

    def _add(self, text: str, *, own: bool = False) -> None:
        with self._lock:
            if not _PROGRESS_BAR.search(text):
                self._lines.append(_Line(text[:LONGEST_LINE], own))
            data = (text + "\n").encode()
            full = self.path.exists() and self.path.stat().st_size > LARGEST_FILE_BYTES
            with self.path.open("wb" if full else "ab") as file:
                file.write(data)
        if self._echo_fd is not None:
            # Not through sys.stderr: a lock held here would stay locked in a process forked meanwhile.
            os.write(self._echo_fd, data)
