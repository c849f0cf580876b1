"""Run one validated graph: order, cache, progress, errors, and the events that tell of them."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from emulator.comfyui.api.websocket import PNG, Sockets
from emulator.comfyui.graph.prompt import Item, Outcome
from emulator.comfyui.graph.run import Failure, Interrupted, Run
from emulator.comfyui.graph.validation import Graph
from emulator.comfyui.graph.values import Shown
from emulator.comfyui.model_files import Library
from emulator.comfyui.nodes.declarations import NEVER_CACHED, Node
from emulator.comfyui.settings import Settings

OOM_ADVICE = (
    "\nThis error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."
)
KILLED = 137
CACHE_LIMIT = 500


class Executor:
    """Runs prompts one after the other, and remembers results of nodes between them."""

    def __init__(
        self, settings: Settings, library: Library, nodes: Mapping[str, Node], sockets: Sockets
    ) -> None:
        self._settings = settings
        self._library = library
        self._nodes = nodes
        self._sockets = sockets
        self._cache: dict[object, Shown] = {}
        self._loaded: set[Path] = set()
        self.current_node: str | None = None
        """The node at work now."""

    def forget(self) -> None:
        """Drop cached results and loaded models."""
        self._cache.clear()
        self._loaded.clear()

    def keep(self, key: object, result: Shown) -> None:
        """Remember a result; the oldest goes when there are too many."""
        self._cache.pop(key, None)
        self._cache[key] = result
        while len(self._cache) > CACHE_LIMIT:
            del self._cache[next(iter(self._cache))]

    async def execute(self, item: Item, interrupted: threading.Event) -> Outcome:
        """Run a prompt to its end; failures are part of the outcome."""
        return await _Execution(self, item, interrupted).run()

    def signature(self, graph: Graph, node_id: str) -> object:
        """Describe all that decides a node's result; equal signatures may share it."""
        node = self._nodes[graph[node_id]["class_type"]]
        parts: list[object] = [node.name]
        if node.changes is not None:
            changed = node.changes(self._library, graph[node_id]["inputs"])
            parts.append(object() if changed is NEVER_CACHED else changed)
        for name in node.inputs:
            value = graph[node_id]["inputs"].get(name)
            linked = isinstance(value, list)
            parts.append((name, (self.signature(graph, value[0]), value[1]) if linked else repr(value)))
        return tuple(parts)


PLAIN = frozenset({"*", "BOOLEAN", "COMBO", "FLOAT", "INT", "STRING"})
"""Types of inputs that a plain value can be given for."""


class _Execution:
    """One prompt at work."""

    def __init__(self, executor: Executor, item: Item, interrupted: threading.Event) -> None:
        self._executor = executor
        self._settings = executor._settings  # noqa: SLF001 - two halves of one thing
        self._sockets = executor._sockets  # noqa: SLF001
        self._nodes = executor._nodes  # noqa: SLF001
        self._cache = executor._cache  # noqa: SLF001
        self._item = item
        self._interrupted = interrupted
        self._outcome = Outcome()
        self._progress: dict[str, dict[str, Any]] = {}
        self._results: dict[str, Shown] = {}
        self._executed: list[str] = []

    async def run(self) -> Outcome:
        graph = self._item.graph
        self._note("execution_start", {})
        order = list(_order(graph, self._item.outputs))
        keys = {node_id: self._executor.signature(graph, node_id) for node_id in order}
        cached = [node_id for node_id in order if keys[node_id] in self._cache and self._settings.cache]
        self._note("execution_cached", {"nodes": cached})
        for node_id in order:
            if node_id in cached:
                self._results[node_id] = self._cache[keys[node_id]]
                self._recall(node_id)
                continue
            if not await self._run_node(node_id):
                return self._outcome
            self._executor.keep(keys[node_id], self._results[node_id])
        self._note("execution_success", {})
        return self._outcome

    def _recall(self, node_id: str) -> None:
        if self._nodes[self._item.graph[node_id]["class_type"]].is_output:
            self._show(node_id, self._results[node_id].ui)
            self._set_progress(node_id, 1, 1, "finished")

    async def _run_node(self, node_id: str) -> bool:
        """Run one node; False when the prompt ends here."""
        node = self._nodes[self._item.graph[node_id]["class_type"]]
        inputs = self._inputs(node, node_id)
        self._executor.current_node = node_id
        self._set_progress(node_id, 0.0, 1.0, "running")
        self._tell("executing", {"node": node_id, "display_node": node_id})
        run = self._context(node_id, node)
        try:
            _refuse_plain(node, self._item.graph[node_id]["inputs"])
            result = await asyncio.to_thread(_work, run, node, inputs)
        except Interrupted:
            data = {"node_id": node_id, "node_type": node.name, "executed": self._executed}
            self._end("execution_interrupted", data)
            return False
        except Failure as failure:
            self._fail(node_id, node, inputs, failure.kind, str(failure))
            return False
        except Exception as error:  # noqa: BLE001 - ComfyUI, too, turns whatever a node raises into an event
            self._fail(node_id, node, inputs, type(error).__name__, str(error))
            return False
        finally:
            self._executor.current_node = None
        shown = result if isinstance(result, Shown) else Shown(result, {})
        self._results[node_id] = shown
        self._executed.append(node_id)
        if shown.ui:
            self._show(node_id, shown.ui)
        maximum = self._progress[node_id]["max"]
        self._set_progress(node_id, maximum, maximum, "finished")
        return True

    def _context(self, node_id: str, node: Node) -> Run:
        loop = asyncio.get_running_loop()

        def later(call: Callable[..., None]) -> Callable[..., None]:
            def call_later(*args: Any) -> None:
                loop.call_soon_threadsafe(call, *args)

            return call_later

        method = self._item.extra_data.get("preview_method", "default")
        if method == "default" or not self._settings.modern:
            method = self._settings.preview_method
        extra = self._item.extra_data.get("extra_pnginfo") or {}
        metadata = {"prompt": self._item.graph} | extra if self._settings.metadata else {}
        return Run(
            node_id=node_id,
            class_type=node.name,
            modern=self._settings.modern,
            folders=self._settings.folders,
            library=self._executor._library,  # noqa: SLF001
            huggingface_cache=self._settings.huggingface_cache,
            knobs=self._settings.knobs,
            metadata={name: json.dumps(value) for name, value in metadata.items()},
            interrupted=self._interrupted,
            report=later(functools.partial(self._report, node_id)),
            send_image=later(self._send_image),
            previews=method != "none",
            prints=self._settings.prints,
            loaded=self._executor._loaded,  # noqa: SLF001
        )

    def _inputs(self, node: Node, node_id: str) -> dict[str, Any]:
        values = self._item.graph[node_id]["inputs"]
        inputs = {}
        for name in node.inputs:
            if name in values:
                value = values[name]
                linked = isinstance(value, list)
                inputs[name] = self._results[value[0]].outputs[value[1]] if linked else value
        return inputs

    def _report(self, node_id: str, value: int, maximum: int, preview: bytes | None) -> None:
        """Tell of a step. Previews with metadata go out before `progress`, those without after it."""
        self._set_progress(node_id, value, maximum, "running")
        names = _names(node_id, self._item.prompt_id)
        client_id = self._item.client_id
        with_metadata = self._sockets.wants_metadata(client_id)
        if preview is not None and with_metadata:
            self._sockets.send_preview(preview, names, client_id)
        data = {"value": value, "max": maximum, "prompt_id": self._item.prompt_id, "node": node_id}
        self._sockets.tell("progress", data, client_id)
        if preview is not None and not with_metadata:
            self._sockets.send_image(1, preview, client_id)

    def _send_image(self, image: bytes) -> None:
        self._sockets.send_image(PNG, image, self._item.client_id)

    def _show(self, node_id: str, ui: dict[str, list[Any]]) -> None:
        names = _names(node_id, self._item.prompt_id)
        self._outcome.outputs[node_id] = ui
        self._outcome.meta[node_id] = {
            "node_id": node_id,
            "display_node": node_id,
            "parent_node": None,
            "real_node_id": names["real_node_id"],
        }
        self._tell("executed", {"node": node_id, "display_node": node_id, "output": ui})

    def _set_progress(self, node_id: str, value: float, maximum: float, state: str) -> None:
        names = _names(node_id, self._item.prompt_id)
        self._progress[node_id] = {"value": value, "max": maximum, "state": state, **names}
        data = {"prompt_id": self._item.prompt_id, "nodes": dict(self._progress)}
        self._sockets.tell("progress_state", data, self._item.client_id)

    def _fail(self, node_id: str, node: Node, inputs: dict[str, Any], kind: str, message: str) -> None:
        advice = OOM_ADVICE if kind == "torch.OutOfMemoryError" else "\n"
        shown = {
            name: [value if isinstance(value, (str, int, float, bool)) else repr(value)]
            for name, value in inputs.items()
        }
        data = {
            "node_id": node_id,
            "node_type": node.name,
            "executed": self._executed,
            "exception_message": message + advice,
            "exception_type": kind,
            "traceback": ['  File "execution.py", in execute\n'],
            "current_inputs": shown,
            "current_outputs": list(self._item.graph),
        }
        self._end("execution_error", data)

    def _end(self, event: str, data: dict[str, Any]) -> None:
        self._outcome.status = "error"
        # Only interrupts are told to everybody when nobody is named.
        self._note(event, data, broadcast=event == "execution_interrupted")

    def _note(self, event: str, data: dict[str, Any], *, broadcast: bool = False) -> None:
        """Tell of an event and keep it for history."""
        data = {"prompt_id": self._item.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self._outcome.messages.append((event, data))
        self._tell(event, data, broadcast=broadcast)

    def _tell(self, event: str, data: dict[str, Any], *, broadcast: bool = False) -> None:
        """Tell the client that sent the prompt; without one nobody hears most events."""
        if self._item.client_id is not None or broadcast:
            self._sockets.tell(event, data | {"prompt_id": self._item.prompt_id}, self._item.client_id)


def _refuse_plain(node: Node, given: dict[str, Any]) -> None:
    """Fail as a node's own code does on a plain value where a link belongs, which validation lets through."""
    for name, one in node.inputs.items():
        value = given.get(name)
        if name in given and one.kind not in PLAIN and not isinstance(value, list):
            raise Failure("AttributeError", f"{type(value).__name__!r} object is not of type {one.kind}")


def _work(run: Run, node: Node, inputs: dict[str, Any]) -> Any:
    """Do a node's work, or the trouble that the knobs ask for instead. Runs in a thread."""
    run.check()
    if run.knobs.die_in == node.name:
        os._exit(KILLED)
    if run.knobs.hang_in == node.name:
        run.wait(math.inf)
    if run.knobs.oom_in == node.name:
        raise Failure("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 8.00 GiB.")
    if run.knobs.raise_in == node.name:
        raise Failure("ValueError", "deliberate failure asked of the emulator")
    return node.run(run, **inputs)


def _names(node_id: str, prompt_id: str) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "prompt_id": prompt_id,
        "display_node_id": node_id,
        "parent_node_id": None,
        "real_node_id": node_id,
    }


def _order(graph: Graph, outputs: list[str]) -> Iterator[str]:
    """Yield the nodes that the outputs need, each after those it needs itself."""
    done: set[str] = set()

    def visit(node_id: str) -> Iterator[str]:
        if node_id in done:
            return
        done.add(node_id)
        for value in graph[node_id]["inputs"].values():
            if isinstance(value, list) and value and value[0] in graph:
                yield from visit(value[0])
        yield node_id

    for output in outputs:
        yield from visit(output)
