"""A worker's log as REST v2 streams it: server-sent events that go on as long as the worker does.

Source: REST v2 openapi, getWorkerLogs: `source` (both when omitted), `tail` (100, from 0 to 5000), `since`,
resume by `Last-Event-ID`, which is the time of an event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from starlette.responses import StreamingResponse

from emulator.document import Document
from emulator.numbers import whole_number
from emulator.rest.call import Answer, Call
from emulator.rest.endpoints import find
from emulator.rest.problems import invalid, not_found
from emulator.state import State
from emulator.workers.fleet import Worker

LOOK_AGAIN_S = 0.2
MAX_TAIL = 5000
SOURCES = ("container", "system")


def stream(state: State, call: Call) -> Answer:
    """Stream one worker's log; a worker that is gone has none."""
    find(state, call.id)
    source, tail = call.query.get("source"), whole_number(call.query.get("tail", "100"))
    if source not in (None, *SOURCES):
        raise invalid("$.source: value must be one of 'container', 'system'")
    if tail is None or tail > MAX_TAIL:
        raise invalid(f"$.tail: must be from 0 to {MAX_TAIL}")
    worker = state.fleet.workers.get(call.params["workerId"])
    if worker is None or worker.endpoint_id != call.id:
        raise not_found()
    sources = SOURCES if source is None else (source,)
    worker.stamp(state.clock.now())
    if cursor := call.headers.get("last-event-id", ""):
        after = microseconds("Last-Event-ID", cursor)
    elif since := call.query.get("since", ""):
        after = microseconds("since", since) - 1
    else:
        shown = [line.at for line in worker.lines if line.source in sources]
        last = worker.lines[-1].at if worker.lines else 0
        after = shown[-tail] - 1 if 0 < tail <= len(shown) else (last if tail == 0 else 0)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    events = follow(state, worker, sources, after)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def follow(state: State, worker: Worker, sources: tuple[str, ...], after: int) -> AsyncIterator[str]:
    """Yield each line after a time as an event, until the worker is gone.

    Args:
        state: knows the workers.
        worker: whose log.
        sources: of which logs.
        after: microseconds since the epoch.
    """
    while True:
        gone = state.bells.closed or state.fleet.workers.get(worker.id) is not worker
        worker.stamp(state.clock.now())
        for line in worker.lines:
            if line.at > after and line.source in sources:
                at = datetime.fromtimestamp(line.at // 10**6, UTC).replace(microsecond=line.at % 10**6)
                time = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
                data: Document = {"ts": time, "source": line.source, "line": line.text}
                yield f"id: {time}\ndata: {json.dumps(data)}\n\n"
                after = line.at
        if gone:
            return
        await asyncio.sleep(LOOK_AGAIN_S)


def microseconds(name: str, text: str) -> int:
    """Read a time of RFC 3339 as microseconds since the epoch."""
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a `+` that came without its escape
    except ValueError:
        raise invalid(f"$.{name}: '{text}' is not valid date-time") from None
    if at.tzinfo is None:
        raise invalid(f"$.{name}: '{text}' is not valid date-time")
    return round(at.timestamp() * 10**6)
