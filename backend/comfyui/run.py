"""Waiting for a run of ComfyUI, by polling: the websocket only adds how far it is.

A run has ended when its history entry is there, and how it ended says
``status_str``. The queue tells a run that waits from one that a restarted
ComfyUI has forgotten.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from backend.comfyui.api import ComfyUI
from backend.comfyui.responses import failure, working
from backend.errors import ComfyformError, JobError, JobFailed, Unavailable, WaitTimeout
from backend.flow import Flow, Progress
from backend.flow.polling import poll
from backend.jobs.polling import Absence
from backend.validation.json_reader import as_object

LOOK_EVERY_S: Final = 2.0
"""How often the queue is looked at while a run has not ended."""
GONE_S: Final = 5.0
"""How long a run must be missing from both the queue and the history before it counts as lost."""
SILENCE_S: Final = 20.0
"""How long a ComfyUI may refuse connections in the middle of a run: a supervised one is back sooner."""

Clock = Callable[[], float]


def poll_delay(waited_s: float) -> float:
    """Seconds until the next look: soon at first, then a share of the time waited, at most one second."""
    return min(0.01 + 0.04 * waited_s, 1.0)


def run(
    comfyui: ComfyUI,
    graph: Mapping[str, Any],
    *,
    deadline_s: float,
    clock: Clock = time.monotonic,
    silence_s: float = SILENCE_S,
) -> Flow[tuple[str, Mapping[str, Any]]]:
    """Queue a graph, wait for its end, and return its prompt id and history entry.

    When the wait ends early for any reason, the run is taken out of the queue or interrupted: this run
    only, never whatever else this ComfyUI is doing.
    """
    from backend.comfyui.websocket_progress import Hint  # loads sockets, which many programs never need

    client_id = os.urandom(16).hex()
    with Hint(comfyui.url, client_id) as hint:
        prompt_id = yield from comfyui.queue(graph, client_id=client_id)
        try:
            waiting = wait(
                comfyui,
                prompt_id,
                deadline_s=deadline_s,
                clock=clock,
                silence_s=silence_s,
                hint=hint.latest,
                graph=graph,
            )
            return prompt_id, (yield from waiting)
        except (GeneratorExit, JobFailed):
            raise
        except BaseException as error:
            if not isinstance(error, JobError) or isinstance(error, WaitTimeout):
                with contextlib.suppress(ComfyformError):
                    yield from comfyui.interrupt(prompt_id)
                    if isinstance(error, WaitTimeout):
                        error.hint = "It was interrupted. COMFYFORM_TIMEOUT_S gives runs more time."
            raise


def wait(
    comfyui: ComfyUI,
    prompt_id: str,
    *,
    deadline_s: float,
    clock: Clock = time.monotonic,
    silence_s: float = SILENCE_S,
    hint: Callable[[str], Mapping[str, Any]] = lambda _: {},
    graph: Mapping[str, Any] | None = None,
) -> Flow[Mapping[str, Any]]:
    """Wait for a run to end and return its history entry. The run goes on whatever happens here.

    Yields a `backend.contract.RunProgress` whenever something changes.

    Args:
        deadline_s: seconds from now.
        silence_s: how long it may be unreachable before the run counts as lost.
        hint: the latest that was heard about a run.
        graph: what runs, where it is known: names the nodes.

    Raises:
        JobFailed, JobCancelled: it ended badly, or ComfyUI forgot it.
        WaitTimeout: the deadline passed.
    """
    answered = clock()
    absence = Absence(seconds=GONE_S)
    looked: float | None = None
    reported: Mapping[str, Any] = {}
    place: int | None = None

    def look() -> Flow[Mapping[str, Any] | None]:
        nonlocal absence, answered, looked, place
        entry = yield from comfyui.history(prompt_id)
        if entry is not None:
            return entry
        now = clock()
        if looked is None or place is None or now - looked >= LOOK_EVERY_S:
            looked = now
            place = yield from comfyui.position(prompt_id)
            if place is not None:
                absence = Absence(seconds=GONE_S)
            # Asked last: a run that left the queue between two answers is in the history by now.
            elif (entry := (yield from comfyui.history(prompt_id))) is not None:
                return entry
            elif absence.confirmed(clock()):
                raise _forgotten(comfyui, prompt_id)
        answered = clock()
        return None

    def look_and_report() -> Flow[Mapping[str, Any] | None]:
        nonlocal reported
        try:
            entry = yield from look()
        except Unavailable as error:
            if clock() - answered > silence_s:
                raise _silent(comfyui, prompt_id, error) from error
            entry = None
        news = _news(place, hint(prompt_id), graph or {})
        if entry is None and news and news != reported:
            reported = news
            yield Progress({"progress": "run", "prompt_id": prompt_id, **news})
        return entry

    def too_late(_: object) -> WaitTimeout:
        message = f"The run {prompt_id} did not end within {deadline_s:.4g} s."
        return WaitTimeout(message, job_id=prompt_id)

    entry = yield from poll(
        look_and_report, deadline_s=deadline_s, delay=poll_delay, clock=clock, too_late=too_late
    )
    return finished(entry, prompt_id)


def finished(entry: Mapping[str, Any], prompt_id: str) -> Mapping[str, Any]:
    """Return a history entry back when the run ended well.

    Raises:
        JobFailed, JobCancelled: it did not.
    """
    if as_object(entry.get("status")).get("status_str") == "error":
        raise failure(entry, prompt_id)
    return entry


def _news(place: int | None, heard: Mapping[str, Any], graph: Mapping[str, Any]) -> dict[str, Any]:
    if heard or place == 0:
        return working(heard.get("node"), graph, heard.get("value"), heard.get("max"))
    return {"state": "queued", "position": place} if place else {}


def _forgotten(comfyui: ComfyUI, prompt_id: str) -> JobFailed:
    return JobFailed(
        f"ComfyUI at {comfyui.url} no longer knows the run {prompt_id}.",
        job_id=prompt_id,
        hint="It was restarted in the middle, or its queue was cleared. Run it again.",
    )


def _silent(comfyui: ComfyUI, prompt_id: str, error: Unavailable) -> JobFailed:
    return JobFailed(
        f"ComfyUI at {comfyui.url} stopped answering in the middle: {error.message}",
        job_id=prompt_id,
        hint="It died or hangs; its own log says why.",
    )
