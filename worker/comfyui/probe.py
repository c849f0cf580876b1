"""Short questions to the ComfyUI of this container, asked by whoever supervises it."""

import http.client
import json
import socket
from typing import Any, Final

HOST: Final = "127.0.0.1"


def free_port() -> int:
    """Return a port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def system_stats(port: int) -> dict[str, Any] | None:
    """Ask what it is, or return None where none answers."""
    return _ask(port, "/system_stats")


def is_idle(port: int) -> bool:
    """Tell whether it answers and works on nothing."""
    queue = _ask(port, "/queue")
    return queue is not None and not queue.get("queue_running")


def _ask(port: int, path: str, timeout_s: float = 2.0) -> dict[str, Any] | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = json.loads(answer.read()) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return body if isinstance(body, dict) else None
