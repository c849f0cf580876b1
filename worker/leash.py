"""Run a command that does not outlive the program that started it.

``python worker/leash.py PARENT_PID COMMAND…`` asks Linux to kill this process
when its parent dies, and becomes the command. Without it a worker that is
killed would leave a ComfyUI behind that holds the GPU. Run as a file, not as a
module, so that it starts in milliseconds and imports none of ours.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # Source: linux/prctl.h


def main(argv: list[str]) -> None:
    """Tie this process to its parent and become the command.

    Args:
        argv: the parent's process id, then the command.
    """
    parent, command = int(argv[0]), argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the leash was on
            sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell: the command is a list
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
