"""What is special about the process that Pulumi runs our providers in.

``prepare`` is called by every provider when it is configured. In any other
process, a test or the Pulumi program, it does nothing. Facts about the engine
and the SDK are in the tests that hold them: ``tests/infra/test_providers.py``.
"""

import functools
import inspect
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

from backend.errors import ComfyformError
from backend.flow.logging_setup import start_logging_from_env

P = ParamSpec("P")
R = TypeVar("R")

stopping: Final = threading.Event()
"""Set when the engine cancels: at the first Ctrl-C."""

_prepared: Final = threading.Lock()
_done = False


class UserError(Exception):
    """One sentence for the user: what is wrong, then what to do."""


# The SDK prints a provider's exception as ``<module>.<qualified name>: <text>``.
UserError.__module__, UserError.__qualname__ = "builtins", "comfyform"


class Stopped(ComfyformError):
    """The user pressed Ctrl-C, or the engine is gone."""


def is_provider_process() -> bool:
    """Tell whether this process is one that the engine started for dynamic providers."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return getattr(spec, "name", "") == "pulumi.dynamic.__main__"


def current_request() -> Any:
    """Find the engine's request that is being answered, for its URN; None outside a provider process.

    The SDK does not pass it on: its servicer has it as a local variable, some frames above.
    """
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("request")
        if getattr(found, "urn", ""):
            return found
        frame = frame.f_back
    return None


def current_urn() -> str:
    """Return the URN of the resource that is being worked on, for log lines; empty elsewhere."""
    return str(getattr(current_request(), "urn", ""))


def guarded(method: Callable[P, R]) -> Callable[P, R]:
    """Let nothing out of a provider's method but one clean line.

    The SDK shows any exception with its traceback unless told otherwise, and one
    other than ``Exception`` is never answered: the engine would hang.
    """

    @functools.wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except UserError as error:
            raise error from None
        except ComfyformError as error:
            raise UserError(str(error)) from None
        except BaseException as error:  # noqa: BLE001  # see above
            where = "".join(traceback.format_tb(error.__traceback__, limit=-4))
            raise UserError(
                f"bug in {method.__qualname__}: {type(error).__name__}: {error}\n{where}"
            ) from None

    return run


def wait(seconds: float) -> None:
    """Wait, unless the user stops it.

    Raises:
        Stopped: at once when the engine cancels.
    """
    if stopping.wait(seconds):
        raise Stopped("Stopped. Completed work is kept: run `pulumi up` again.")


def prepare() -> None:
    """Make the provider process show clean errors, end waits at Ctrl-C, and end when the engine does."""
    global _done  # noqa: PLW0603  # once a process
    with _prepared:
        if _done or not is_provider_process():
            return
        _done = True
    sys.tracebacklimit = 0
    start_logging_from_env()
    _cancel_at_once()
    _end_with_the_engine()


def _cancel(self: Any, request: Any, context: Any) -> Any:  # noqa: ARG001  # the SDK's signature
    """Stop all waits: the new body of the SDK's Cancel handler, which does nothing."""
    from google.protobuf import empty_pb2

    from infra.provider_hooks import stopping

    stopping.set()
    return empty_pb2.Empty()


def _cancel_at_once() -> None:
    """Hook the engine's Cancel, a private detail of the SDK; without it Ctrl-C waits for running creates."""
    try:
        servicer: Any = sys.modules["__main__"].DynamicResourceProviderServicer
        servicer.Cancel.__code__ = _cancel.__code__
    except Exception as error:  # noqa: BLE001  # any change of the SDK's insides means only a slower Ctrl-C
        print(f"note: Ctrl-C waits for running creates ({error!r})", file=sys.stderr)  # noqa: T201


def _end_with_the_engine() -> None:
    """End this process soon after the engine's.

    A CLI that was killed leaves its provider processes behind, in the middle of
    what they do: one could create a resource after the next `up` has looked for it.
    """
    import grpc

    seen_alive = threading.Event()

    def changed(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            seen_alive.set()
        elif state is grpc.ChannelConnectivity.IDLE:
            # The engine closed the connection, or it was idle for half an hour: asking again tells which.
            engine().subscribe(lambda _: None, try_to_connect=True)
        elif state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and (seen_alive.is_set() or _is_refused()):
            _exit()

    engine().subscribe(changed, try_to_connect=True)


def _is_refused() -> bool:
    """Tell whether the engine's port refuses connections.

    gRPC reports the latest state only: a busy process may never be told of a short READY.
    """
    host, _, port = sys.argv[-1].rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _exit() -> NoReturn:
    os._exit(1)


@functools.cache
def engine() -> Any:
    """Open the channel to the engine, whose address is the process's last argument."""
    import grpc

    return grpc.insecure_channel(sys.argv[-1])
