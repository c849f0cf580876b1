"""Tells the user how far a resource is, on that resource's own line of Pulumi's display."""

import re
import threading
import time
from typing import Final

from infra.provider_hooks import Stopped, engine, is_provider_process

_URN: Final = re.compile(r"urn:pulumi:[^:]+::[^:]+::.+::.+")
EVERY_S: Final = 2.0


class Teller:
    """Sends lines for one resource, at most one every two seconds.

    The line is ephemeral: the display shows it live and drops it at the end,
    where everything that a provider prints would be repeated.

    Args:
        urn: the resource's.
    """

    def __init__(self, urn: str) -> None:
        self._urn = urn
        self._lock = threading.Lock()
        self._last = float("-inf")

    def __call__(self, text: str) -> None:
        """Show a line, or drop it where the last one is too fresh.

        Raises:
            Stopped: the engine does not answer, so the result is no longer needed.
        """
        with self._lock:
            if time.monotonic() - self._last < EVERY_S:
                return
            self._last = time.monotonic()
        log(text, urn=self._urn)


def warn(text: str, *, urn: str = "") -> None:
    """Send a warning to the engine, which repeats it at the end; outside a provider process, do nothing."""
    log(text, urn=urn, ephemeral=False, severity="WARNING")


def log(text: str, *, urn: str = "", ephemeral: bool = True, severity: str = "INFO") -> None:
    """Send one line to the engine; outside a provider process, do nothing.

    A malformed URN would crash the engine, so its line becomes the stack's.
    """
    if not is_provider_process():
        return
    import grpc
    from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

    level = engine_pb2.LogSeverity.Value(severity)
    request = engine_pb2.LogRequest(
        severity=level, message=text, ephemeral=ephemeral, urn=urn if _URN.fullmatch(urn) else ""
    )
    try:
        engine_pb2_grpc.EngineStub(engine()).Log(request, timeout=10)
    except grpc.RpcError:
        raise Stopped(
            "Pulumi exited. RunPod continues the work it has started: run `pulumi up` again."
        ) from None


def size(number: float) -> str:
    """Say a number of bytes for people: ``1.4 GB``."""
    for unit, worth in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= worth:
            return f"{number / worth:.1f} {unit}"
    return f"{number:.0f} B"
