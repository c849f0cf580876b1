"""A worker's log as REST v2 streams it: server-sent events that go on as long as the worker does.

Source: REST v2 openapi, getWorkerLogs: `source`, `tail` (100, at most 5000), resume by `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from starlette.responses import StreamingResponse

from emulator.document import Document
from emulator.rest.call import Answer, Call
from emulator.rest.endpoints import find, timestamp
from emulator.rest.problems import invalid, not_found
from emulator.state import State
from emulator.workers.fleet import Worker

LOOK_AGAIN_S = 0.2
MAX_TAIL = 5000


def stream(state: State, call: Call) -> Answer:
    """Stream one worker's log; a worker that is gone has none."""
    find(state, call.id)
    source, tail = call.query.get("source", "container"), call.query.get("tail", "100")
    if source not in ("container", "system"):
        raise invalid("$.source: value must be one of 'container', 'system'")
    if not tail.isdigit() or not 1 <= int(tail) <= MAX_TAIL:
        raise invalid(f"$.tail: must be from 1 to {MAX_TAIL}")
    worker = state.fleet.workers.get(call.params["workerId"])
    if worker is None or worker.endpoint_id != call.id:
        raise not_found()
    lines: Callable[[], list[str]] = worker.log_lines if source == "container" else lambda: worker.events
    resumed = call.headers.get("last-event-id", "").rpartition("/")[2]
    first = int(resumed) + 1 if resumed.isdigit() else max(0, len(lines()) - int(tail))
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    events = follow(state, worker, source, lines, first)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def follow(
    state: State, worker: Worker, source: str, lines: Callable[[], list[str]], number: int
) -> AsyncIterator[str]:
    """Give each line from a number on as an event, until the worker is gone."""
    while True:
        for line in lines()[number:]:
            now = timestamp(state.clock.now())
            data: Document = {"ts": now, "source": source, "line": line}
            yield f"id: {now}/{number:012d}\ndata: {json.dumps(data)}\n\n"
            number += 1
        if state.bells.closed or state.fleet.workers.get(worker.id) is not worker:
            return
        await asyncio.sleep(LOOK_AGAIN_S)
