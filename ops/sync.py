"""Apply a plan to a store, some files at a time; what was done stays done, whatever happens to the rest."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from backend.errors import ComfyformError, PartialApply
from ops.crew import Crew
from ops.disk import translated
from ops.plan import Action, Plan
from ops.store import ModelStore, OnProgress, ignore_progress

PARALLEL: Final = 3
"""Files at a time. An ops endpoint has one worker, so its jobs queue; over S3 three fill a line."""
_FAREWELL_S: Final = 10.0
"""After Ctrl-C: time for running jobs to be cancelled, and for other machines to be let ahead."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one action.

    Attributes:
        action: what was to be done.
        status: ``kept``, ``fetched``, ``moved``, ``removed`` or ``failed``.
        fetched_bytes: what came over the network just now.
        error: why it failed.
        set_aside: where the file of other hands lies that was replaced.
    """

    action: Action
    status: str
    fetched_bytes: int = 0
    error: ComfyformError | None = None
    set_aside: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give a JSON value."""
        return {
            "path": self.action.path,
            "kind": self.action.kind,
            "status": self.status,
            "fetched_bytes": self.fetched_bytes,
            "error": None if self.error is None else str(self.error),
            "set_aside": self.set_aside or None,
        }


def apply(
    plan: Plan,
    store: ModelStore,
    *,
    on_progress: OnProgress = ignore_progress,
    on_done: Callable[[Done], object] = lambda _done: None,
    stop: threading.Event | None = None,
    parallel: int = PARALLEL,
) -> tuple[Done, ...]:
    """Do what a plan says. Removals come last, so that nothing goes before its replacement is there.

    Args:
        plan: from `ops.plan.compare`.
        store: where.
        on_progress: bytes, from any thread.
        on_done: told of each action when it and those before it are done, from this thread.
        stop: set when this is interrupted, so that whoever waits elsewhere stops too.
        parallel: files at a time.

    Returns:
        One entry a change, in the order of the plan, removals last.

    Raises:
        PartialApply: some failed; the others are done.
    """
    ordered = sorted(plan.changes, key=lambda action: action.kind == "remove")
    results: list[Done] = []

    def work(crew: Crew[Action, Done], action: Action) -> Done:
        return Done(action, "skipped") if crew.stopped else _do(action, store, on_progress)

    with Crew(work, ordered, threads=min(parallel, len(ordered)), ahead=parallel) as crew:
        try:
            for _ in ordered:
                results.append(crew.take())
                on_done(results[-1])
        except BaseException:
            if stop is not None:
                stop.set()
            crew.stop()
            crew.join(_FAREWELL_S)
            raise
    failed = [done for done in results if done.error is not None]
    if len(failed) == len(results) == 1 and failed[0].error is not None:
        raise failed[0].error
    if failed:
        raise PartialApply(
            [f"{done.action.path}: {done.status}" for done in results if done.error is None],
            [f"{done.action.path}: {done.error}" for done in failed],
        )
    return tuple(results)


def _do(action: Action, store: ModelStore, on_progress: OnProgress) -> Done:
    """Do one action; a failure is an answer."""
    try:
        with translated(action.path):
            if action.kind == "remove":
                store.remove([action.path])
                return Done(action, "removed")
            (provisioned,) = store.provision([action.wanted()], on_progress=on_progress)
    except ComfyformError as error:
        return Done(action, "failed", error=error)
    status = "moved" if "moved_from" in provisioned else provisioned["status"]
    aside = provisioned.get("set_aside") or ""
    return Done(action, status, provisioned["fetched_bytes"], set_aside=aside)
