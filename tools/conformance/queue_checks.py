"""The checks of the conformance run that are about the queue: who stops what, and what a restart loses."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from backend import GenerationResult, WaitTimeout
from backend.errors import ComfyformError
from tools.conformance import graphs
from tools.conformance.context import WAIT_S, Run, Skipped, pause, require

ROOT: Final = Path(__file__).resolve().parents[2]


def deadline(run: Run) -> str:
    """A run that takes too long is interrupted, and the queue is clean."""
    before = time.monotonic()
    result = run.backend.workflow(run.long_run(), timeout_s=5.0)
    require(isinstance(result.exception, WaitTimeout), f"it gave {result.exception!r}")
    prompt_id = str(getattr(result.exception, "job_id", ""))
    run.wait(lambda: run.position(prompt_id) is None, "the run is still in the queue")
    return f"{time.monotonic() - before:.1f} s"


def interrupt(run: Run) -> str:
    """Ctrl-C of the command line exits 130, says what became of the run, and leaves the queue clean."""
    place = run.folder / "long.json"
    place.write_text(json.dumps(run.long_run()), encoding="utf-8")
    command = [sys.executable, "-m", "invoke", "generate.workflow", str(place), "--backend", "local"]
    env = os.environ | {"COMFYUI_URL": run.comfyui.url, "COMFYFORM_STATE_DIR": str(run.folder / "state")}
    # A background shell ignores SIGINT, and what it starts inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as running:
        if running.stderr is None:
            raise AssertionError("no pipe")
        last_line = ""
        for line in running.stderr:
            last_line = line
            if "KSampler" in line:
                break
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    require(running.returncode == 130, f"exit code {running.returncode}: {last_line}{rest}")
    require("Stopped. Job " in rest, f"it said {rest!r}")
    job_id = rest.partition("Stopped. Job ")[2].split()[0]
    run.wait(lambda: run.position(job_id) is None, "the run is still in the queue")
    return rest.strip()


@contextmanager
def foreign_run(run: Run, graph: graphs.Graph) -> Iterator[str]:
    """Another client's run, for as long as a ``with`` lasts; gives its prompt id."""
    prompt_id = run.http.run(run.comfyui.queue(graph, client_id="foreign"))
    try:
        run.wait(lambda: run.position(prompt_id) == 0, "the other client's run does not start")
        yield prompt_id
    finally:
        run.http.run(run.comfyui.interrupt(prompt_id))
        run.wait(lambda: run.position(prompt_id) is None, "the other client's run does not end")


def second_client(run: Run) -> str:
    """A run that waits behind another client's is taken out of the queue; the other one goes on."""
    with foreign_run(run, run.long_run()) as other:
        result = run.backend.workflow(
            graphs.picture(run.checkpoint, seed=time.time_ns() % 2**31), timeout_s=3.0
        )
        require(isinstance(result.exception, WaitTimeout), f"it gave {result.exception!r}")
        mine = str(getattr(result.exception, "job_id", ""))
        require(run.position(mine) is None, "our run is still in the queue")
        pause(2.0)
        require(run.position(other) == 0, "the other client's run was stopped")
    return "only ours was removed"


def submitted(run: Run) -> str:
    """A run that was submitted is fetched later by its id, and one of two is cancelled."""
    first = run.backend.submit("workflow", graph=graphs.picture(run.checkpoint, seed=5))
    second = run.backend.submit("workflow", graph=run.long_run())
    require(second.cancel(), "the second could not be cancelled")
    place = run.folder / "resumed.png"
    path = run.saved(run.backend.resume(first.id, output_path=place), "image")
    run.wait(lambda: run.position(second.id) is None, "the cancelled run is still in the queue")
    return f"{path.stat().st_size} bytes"


def killed(run: Run) -> str:
    """A ComfyUI that is killed in the middle and started again is said to have forgotten the run."""
    if run.server is None:
        raise Skipped("only with --comfyui-dir")
    results: list[GenerationResult] = []
    graph = run.long_run()
    thread = threading.Thread(target=lambda: results.append(run.backend.workflow(graph, timeout_s=600.0)))
    thread.start()

    def working() -> bool:
        queue = run.http.run(run.comfyui._get("/queue", "Look into the queue"))  # noqa: SLF001  # no public way
        return bool(queue.get("queue_running"))

    run.wait(working, "the run does not start")
    run.server.kill()
    run.server.start()
    thread.join(WAIT_S)
    require(bool(results), "the call did not return")
    (result,) = results
    require(isinstance(result.exception, ComfyformError), f"it gave {result.exception!r}")
    require(
        "no longer knows the run" in str(result.error) or "stopped answering" in str(result.error),
        str(result.error),
    )
    run.saved(
        run.backend.workflow(graphs.picture(run.checkpoint, seed=9), output_path=run.folder / "alive.png"),
        "image",
    )
    return str(result.error)


QUEUE_CHECKS: Final[Mapping[str, Callable[[Run], str]]] = {
    "submit, resume, cancel": submitted,
    "deadline interrupts": deadline,
    "Ctrl-C interrupts": interrupt,
    "another client's run is left alone": second_client,
    "kill -9 and restart": killed,
}
