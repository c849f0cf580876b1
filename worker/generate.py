"""The generation actions: the local backend, run against the ComfyUI in this container.

What is the worker's own is around it: the job's files come in, names from
outside are checked, a ComfyUI that dies is noticed at once, and what was made
goes out and is cleaned up.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from backend.comfyui.api import ComfyUI
from backend.comfyui.backend import LocalBackend
from backend.contract import SHARED_INPUTS, InputFile
from backend.errors import ComfyformError, InvalidArgument, Unavailable, WaitTimeout
from backend.flow.http_driver import Http
from backend.validation.checks import path_problem
from backend.verbs import transcripts
from backend.verbs.catalog import find
from backend.verbs.request import Request as VerbRequest
from backend.verbs.request import read
from backend.verbs.result import GeneratedFile, GenerationResult
from worker.comfyui.directories import Folders
from worker.comfyui.missing_models import explained
from worker.comfyui.supervisor import ComfyUIDown, ComfyUIProcess
from worker.jobs.cancellation import Stopped, StopSign
from worker.jobs.inputs import gathered, placed
from worker.jobs.messages import Request
from worker.jobs.outputs import Made, Outlet
from worker.jobs.unnamed_outputs import add_unnamed, is_unnamed

START_S: Final = 300.0
"""How long a ComfyUI may take until it answers: a cold container reads gigabytes of packages."""
DEATH_S: Final = 2.0
"""How long a broken connection may be explained by a process that is still ending."""

CUT_S: Final = 10.0
"""How long a run may go on after it was stopped or its time ended, before ComfyUI is killed."""
LEAST_SEND_S: Final = 60.0
"""What sending the results out may take at least: they are paid for."""
SETTLE_S: Final = 20.0
"""How long a run that was given up may go on: an interrupt takes effect at the next step."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Studio:
    """The one ComfyUI of this worker, and what comes in and goes out. One generation at a time.

    Attributes:
        comfyui, folders: the process and its folders.
        volume: the volume's root.
        outlet: where outputs go.
        allow_hosts: hosts that a job's URLs may name although they are private or plain http.
        deadline_s: for a job that names no limit of its own.
        recognizes_speech: tells whether ComfyUI can find out what a voice recording says.
    """

    comfyui: ComfyUIProcess
    folders: Folders
    volume: Path
    outlet: Outlet
    allow_hosts: Sequence[str]
    deadline_s: float
    recognizes_speech: Callable[[], bool]
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def make(self, request: Request, stop: StopSign, tell: Tell) -> dict[str, Any]:
        """Do a generation action and return its part of the answer.

        Raises:
            InvalidArgument: an argument, a name or a file of the job is refused.
            ComfyUIDown: ComfyUI does not start, or died in the middle.
            JobError: the run failed.
        """
        deliver = request.params.get("deliver", "auto")
        if deliver not in ("auto", "volume"):
            raise InvalidArgument(f"deliver must be auto or volume, got {deliver!r}.")
        params = {name: value for name, value in request.params.items() if name != "deliver"}
        checked, brought = named(request.action, params, request.inputs)
        self._require_volume(checked)
        begun = time.monotonic()
        end = begun + (request.deadline_s or self.deadline_s)
        with (
            gathered(
                brought,
                folder=self.folders.arriving,
                volume=self.volume,
                allow_hosts=self.allow_hosts,
                stop=stop,
                end=end,
            ) as arrived,
            self._alone(stop, end),
            placed(arrived, self.folders.input),
        ):
            require_inputs(checked, self.folders.input)
            self._require_transcript(checked)
            tell({"progress": "start", "state": self.comfyui.state.value})
            url = self.comfyui.wait_ready(max(0.0, min(START_S, end - time.monotonic())), stop.raised)
            ready = time.monotonic()
            result = self._run(url, checked, end, stop, tell)
            sent = time.monotonic()
            warnings = list(result.warnings)
            only_unnamed = all(is_unnamed(file) for file in result.files)
            files = self.outlet.send(
                [
                    Made(file.local_path, file.sha256, optional=is_unnamed(file) and not only_unnamed)
                    for file in result.files
                    if file.local_path
                ],
                job_id=request.job_id,
                deliver=deliver,
                today=datetime.now(UTC).date(),
                stop=stop,
                end=max(end, sent + LEAST_SEND_S),
                warn=warnings.append,
            )
        timings = {"start": round(ready - begun, 3), **result.timings}
        timings |= {"send": round(time.monotonic() - sent, 3), "total": round(time.monotonic() - begun, 3)}
        return {
            "files": files,
            "seed": result.seed,
            "prompt_id": result.prompt_id,
            "warnings": warnings,
            "timings": timings,
            **_avatar(checked, result.files),
        }

    def _require_volume(self, request: VerbRequest) -> None:
        """Refuse to keep an avatar where there is nothing to keep it on."""
        if request.asks_for("save_to_avatars") and not self.volume.is_dir():
            raise InvalidArgument(
                f"save_to_avatars: this worker has no network volume at {self.volume}.",
                hint="Attach the volume to the endpoint, or leave save_to_avatars out.",
            )

    def _require_transcript(self, request: VerbRequest) -> None:
        """Refuse to clone a voice whose words are unknown and cannot be recognized."""
        if not transcripts.is_missing(request):
            return
        recording = str(request["voice_reference"])
        if not transcripts.read_beside(self.folders.input / recording) and not self.recognizes_speech():
            raise transcripts.missing(request.verb, recording)

    def warm_up(self, workflow: Path, stop: StopSign) -> None:
        """Run a workflow once, so that its models are in the GPU's memory before the first job asks for them.

        Args:
            workflow: a file in API format. A job that comes meanwhile waits until it is done.

        Raises:
            InvalidArgument: the file cannot be read, or is not a workflow.
            ComfyformError: it could not be run.
        """
        try:
            graph = json.loads(workflow.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"The warm-up workflow {workflow} cannot be read: {error}.") from error
        with self._alone(stop):
            url = self.comfyui.wait_ready(START_S, stop.raised)
            end = time.monotonic() + self.deadline_s
            self._run(url, read("workflow", {"graph": graph}), end, stop, lambda _: None)

    def _run(
        self, url: str, request: VerbRequest, end: float, stop: StopSign, tell: Tell
    ) -> GenerationResult:
        """Run the verb, with its results in the scratch folder that `_alone` sweeps."""
        deaths = len(self.comfyui.deaths)

        def wait(seconds: float) -> None:
            stop.wait(seconds)
            # Polling on would take long to find out what the process table knows already.
            if len(self.comfyui.deaths) > deaths:
                raise self.comfyui.down("ComfyUI died during the run")

        into = replace(request, output_path=self.folders.results)
        unnamed = partial(add_unnamed, output=self.folders.output, results=self.folders.results)
        try:
            with Http(wait=wait) as http, self._cut_off(stop, end):
                backend = LocalBackend(ComfyUI(url), add_unnamed=unnamed)
                flow = backend.generate(into, deadline_s=end - time.monotonic())
                result = http.run(flow, on_progress=tell)
            if result.exception is not None:
                result.exception.hint = "It was made, and could not be fetched: is the container's disk full?"
            return result.raise_for_failure()
        except (Stopped, WaitTimeout):
            self.comfyui.settle(SETTLE_S)
            raise
        except ComfyformError as error:
            stop.check()
            # A connection that breaks is the first sign of a process that is just ending.
            if isinstance(error, Unavailable):
                self.comfyui.wait_death(deaths, DEATH_S)
            if len(self.comfyui.deaths) == deaths:
                self.comfyui.settle(SETTLE_S)
            elif not isinstance(error, ComfyUIDown):
                raise self.comfyui.down("ComfyUI died during the run") from error
            raise explained(error) from error

    @contextmanager
    def _cut_off(self, stop: StopSign, end: float) -> Iterator[None]:
        """Kill ComfyUI where a conversation with it goes on after the job was stopped or its time ended.

        A read that gets a byte now and then ends in no other way.
        """
        left = threading.Event()

        def watch() -> None:
            while not left.wait(0.2):
                if stop.raised.is_set() or time.monotonic() >= end:
                    if not left.wait(CUT_S):
                        self.comfyui.kill("it goes on answering after the job's end")
                    return

        watcher = threading.Thread(target=watch, name="comfyui cutoff", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            left.set()
            watcher.join()

    @contextmanager
    def at_rest(self, stop: StopSign) -> Iterator[str]:
        """Have a ComfyUI that is ready to oneself, and its address; a job that waits for it goes first.

        Raises:
            ComfyUIDown: it does not become ready.
        """
        self.comfyui.wait_ready(START_S, stop.raised)
        with self._alone(stop):
            yield self.comfyui.wait_ready(START_S, stop.raised)

    @contextmanager
    def _alone(self, stop: StopSign, end: float = math.inf) -> Iterator[None]:
        """Have ComfyUI to oneself, and leave nothing behind: not in its folders, not in the job's.

        Raises:
            WaitTimeout: the job's time ended while another job had ComfyUI.
        """
        while not self._turn.acquire(timeout=0.2):
            stop.check()
            if time.monotonic() >= end:
                raise WaitTimeout("The job's time ended while this worker's ComfyUI was busy with another.")
        try:
            # A node's thread may have written after its run had ended; this is not the next run's.
            self.folders.sweep()
            self.folders.results.mkdir(exist_ok=True)
            yield
        finally:
            self.folders.sweep()
            self._turn.release()


def named(
    verb: str, params: Mapping[str, Any], inputs: Sequence[InputFile]
) -> tuple[VerbRequest, list[InputFile]]:
    """Check a job's arguments so that every file in them is a name below ComfyUI's inputs.

    On a client a text may be a path of its machine; in a job it never is one of this machine.

    Args:
        verb: which.
        params: the job's fields.
        inputs: files that come along.

    Returns:
        The checked request, and the files to bring: those that came, and those that an argument's URL names.

    Raises:
        InvalidArgument: all problems at once.
    """
    given, brought = dict(params), list(inputs)
    if verb == "workflow" and "workflow" in given:
        given.setdefault("graph", given.pop("workflow"))
    names: dict[str, Any] = {}
    for name, spec in find(verb).params.items():
        if spec.what == "input" and isinstance(given.get(name), str):
            names[name], file = _name_of(name, given[name])
            brought += [file] if file else []
            # Stands in for the name while the rest is checked, so that no disk is looked at.
            given[name] = GeneratedFile(type="file", filename=names[name])
    given.pop("output_path", None)
    checked = read(verb, given)
    return replace(checked, given={**checked.given, **names}), brought


def _name_of(param: str, value: str) -> tuple[str, InputFile | None]:
    """Return an input argument's name below ComfyUI's inputs, and the file to fetch where it is a URL."""
    if "://" in value:
        filename = unquote(urlsplit(value).path.rpartition("/")[2]) or "file"
        name = f"{param}-{''.join(c if c.isalnum() or c in '._-' else '_' for c in filename)}"
        return name, {"name": name, "url": value}
    if problem := path_problem(value):
        raise InvalidArgument(f"{param} {value!r} is refused: {problem}.")
    return value, None


def require_inputs(request: VerbRequest, input_folder: Path) -> None:
    """Refuse a request whose files are not there, before a graph is run for nothing.

    Raises:
        InvalidArgument: all that are missing at once.
    """
    missing = [
        f"{name} {value!r}"
        for name, spec in request.params.items()
        if spec.what == "input" and (value := request.given.get(name)) is not None
        if not (input_folder / str(value)).is_file()
    ]
    if missing:
        raise InvalidArgument(
            f"{request.verb}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not there.",
            hint=f"Send files in 'inputs', or keep them on the volume in {' and '.join(SHARED_INPUTS)}.",
        )


def _avatar(request: VerbRequest, files: Sequence[GeneratedFile]) -> dict[str, Any]:
    """Say where the portrait was kept, in the origin's words."""
    if not request.asks_for("save_to_avatars") or not files:
        return {}
    return {"avatar_saved": files[0].origin_path, "lipsync_ready": True}
