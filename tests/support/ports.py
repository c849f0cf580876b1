"""Ports for programs that must be told one."""

from __future__ import annotations

import random
import socket

RANGE = range(20_000, 32_000)
"""Below the ports that Linux gives to connections and to listeners on port 0 (32768 and above)."""


def free_port() -> int:
    """Return a port that is free now, and that nothing is given by chance."""
    while True:
        port = random.choice(RANGE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
