"""Apply a plan to a store, some files at a time; what was done stays done, whatever happens to the rest."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from backend.errors import ComfyformError, PartialApply
from ops.files.atomic import translated
from ops.stores.model_store import ModelStore, OnProgress, ignore_progress
from ops.sync.plan import Action, Plan
from ops.threads.ordered_pool import Crew

logger = logging.getLogger(__name__)

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
        """Return a JSON value."""
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
        plan: from `ops.sync.plan.compare`.
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
    steps = [[action] for action in plan.changes if action.kind != "remove"]
    gone = [action for action in plan.changes if action.kind == "remove"]
    # A removal through a worker is a paid job, whether it names one file or all of them.
    steps += [gone] if gone and store.removes_together else [[action] for action in gone]
    results: list[Done] = []

    def work(crew: Crew[list[Action], list[Done]], step: list[Action]) -> list[Done]:
        return [Done(action, "skipped") for action in step] if crew.stopped else _do(step, store, on_progress)

    with Crew(work, steps, threads=min(parallel, len(steps)), ahead=parallel) as crew:
        try:
            for _ in steps:
                for done in crew.take():
                    results.append(done)
                    on_done(done)
        except BaseException:
            if stop is not None:
                stop.set()
            crew.stop()
            crew.join(_FAREWELL_S)
            raise
    failed = [done for done in results if done.error is not None]
    causes = {id(done.error): done.error for done in failed}
    if len(failed) == len(results) and len(causes) == 1 and failed[0].error is not None:
        raise failed[0].error
    if failed:
        raise PartialApply(
            [f"{done.action.path}: {done.status}" for done in results if done.error is None],
            [f"{done.action.path}: {done.error}" for done in failed],
        )
    return tuple(results)


def _do(step: list[Action], store: ModelStore, on_progress: OnProgress) -> list[Done]:
    """Do one action, or several removals at once; a failure is an answer."""
    action = step[0]
    logger.info("%s: %s", action.kind, ", ".join(one.path for one in step))
    try:
        with translated(action.path):
            if action.kind == "remove":
                store.remove([one.path for one in step])
                return [Done(one, "removed") for one in step]
            (provisioned,) = store.provision([action.wanted()], on_progress=on_progress)
    except ComfyformError as error:
        logger.info("%s: failed: %s", action.path, error.message)
        return [Done(one, "failed", error=error) for one in step]
    status = "moved" if "moved_from" in provisioned else provisioned["status"]
    logger.info("%s: %s, %d bytes fetched", action.path, status, provisioned["fetched_bytes"])
    aside = provisioned.get("set_aside") or ""
    return [Done(action, status, provisioned["fetched_bytes"], set_aside=aside)]
