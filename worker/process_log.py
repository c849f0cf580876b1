"""What a process prints: drained all the time, its end kept in memory, the whole in a file.

A pipe that nobody reads blocks its writer after 64 KiB: that is how a ComfyUI
with progress bars used to hang.
"""

import os
import threading
from collections import deque
from pathlib import Path
from typing import IO, Final

KEPT_LINES: Final = 400
LONGEST_LINE: Final = 500
LARGEST_FILE_BYTES: Final = 32 << 20
CONTAINER_LOG_FD: Final = 2


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
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._lock = threading.Lock()

    def drain(self, stream: IO[bytes]) -> threading.Thread:
        """Start to read a stream to its end; the thread ends with the stream."""
        thread = threading.Thread(target=self._read, args=(stream,), name="process-log", daemon=True)
        thread.start()
        return thread

    def note(self, line: str) -> None:
        """Add a line of the supervisor's own."""
        self._add(f"[worker] {line}")

    def tail(self, lines: int = 20) -> list[str]:
        """Give the last lines, oldest first."""
        with self._lock:
            return list(self._lines)[-lines:]

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            # A progress bar redraws its line with carriage returns: only its last state is a line.
            for raw in stream:
                text = raw.decode("utf-8", errors="replace").rstrip().rpartition("\r")[2]
                if text:
                    self._add(text)

    def _add(self, text: str) -> None:
        with self._lock:
            self._lines.append(text[:LONGEST_LINE])
            data = (text + "\n").encode()
            full = self.path.exists() and self.path.stat().st_size > LARGEST_FILE_BYTES
            with self.path.open("wb" if full else "ab") as file:
                file.write(data)
        if self._echo_fd is not None:
            # Not through sys.stderr: a lock held here would stay locked in a process forked meanwhile.
            os.write(self._echo_fd, data)
