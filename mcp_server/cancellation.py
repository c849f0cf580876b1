"""Cancel the job of a call that its client cancelled (``notifications/cancelled``).

The SDK interrupts the handler of a cancelled call in the same way as one whose connection was lost, and
passes the notification on after that. So the submission of an interrupted call is kept until a notification
names it.
Source: mcp 2.3, mcp/shared/jsonrpc_dispatcher.py.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from mcp.server import ServerRequestContext
from mcp.types import RequestId

from mcp_server.job_waiter import Watch

KEPT: Final = 100
"""Submissions of interrupted calls that are kept; a notification follows its call at once, or never."""

Submission: TypeAlias = asyncio.Task[Watch]
"""Submits a job, and gives the wait for it."""
RequestKey: TypeAlias = tuple[str, str]


class Submissions:
    """The submissions of the calls that are not answered yet, by request."""

    def __init__(self) -> None:
        self._by_request: dict[RequestKey, Submission] = {}

    @contextlib.contextmanager
    def of_call(self, key: RequestKey) -> Iterator[Callable[[Submission], None]]:
        """Remember the submission that a call passes to the yielded function, until the call is answered."""

        def remember(submission: Submission) -> None:
            self._by_request.pop(key, None)
            self._by_request[key] = submission
            for oldest in list(self._by_request)[:-KEPT]:
                del self._by_request[oldest]

        try:
            yield remember
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._by_request.pop(key, None)
            raise
        else:
            self._by_request.pop(key, None)

    def take(self, key: RequestKey) -> Submission | None:
        """Remove and return the submission of a cancelled call; None if it has none or was answered."""
        return self._by_request.pop(key, None)


def request_key(context: ServerRequestContext, request_id: RequestId | None) -> RequestKey:
    """Name a request among those of all clients: over HTTP by its session, as ids repeat between clients."""
    session = context.request.headers.get("mcp-session-id") if context.request is not None else None
    return session or "", str(request_id)
