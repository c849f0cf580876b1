"""Run a command that does not outlive the program that started it.

``python worker/comfyui/die_with_parent.py PARENT_PID COMMAND…`` asks Linux to kill this process
when its parent dies, gives up the capabilities that open other programs' memory,
and becomes the command. Without it a worker that is killed would leave a
ComfyUI behind that holds the GPU. Run as a file, not as a
module, so that it starts in milliseconds and imports no module of this project.
"""

import ctypes
import os
import signal
import sys

# Source: linux/prctl.h, linux/capability.h
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
CAPABILITIES = (19, 21, 38)
"""SYS_PTRACE, SYS_ADMIN and PERFMON: each of them opens the memory of every other program."""


def main(argv: list[str]) -> None:
    """Tie this process to its parent and become the command.

    Args:
        argv: the parent's process id, then the command.
    """
    parent, command = int(argv[0]), argv[1:]
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # A container usually has none of them; where this is refused, the command gets none either.
        for capability in CAPABILITIES:
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        if os.getppid() != parent:  # it died before the leash was on
            sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell: the command is a list
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
