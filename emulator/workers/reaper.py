"""A small process that outlives the emulator by a moment: it ends the workers of one that was killed.

Run as `python -I emulator/reaper.py`. Lines on its standard input name process groups, `+12` or `-12`;
when the input ends without them being taken back, they are killed.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Follow the emulator until it is gone."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line)
        if group > 0:
            groups.add(group)
        else:
            groups.discard(-group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
