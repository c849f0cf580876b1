"""The queue, its one worker, and history: all in memory, gone when the program ends, as in ComfyUI."""

from __future__ import annotations

import asyncio
import bisect
import shutil
import threading
import time
import uuid
from typing import Any

import emulator.comfyui.nodes  # noqa: F401 - for the node classes that it registers
from emulator.comfyui.api.websocket import Sockets
from emulator.comfyui.graph.execution import Executor
from emulator.comfyui.graph.prompt import Item, Outcome
from emulator.comfyui.graph.validation import validate
from emulator.comfyui.model_files import Library
from emulator.comfyui.nodes.declarations import NODES, Node
from emulator.comfyui.settings import Knobs, Settings

HISTORY_LIMIT = 10_000
SENSITIVE = ("auth_token_comfy_org", "api_key_comfy_org")


class Engine:
    """One ComfyUI behind its routes. Used from one event loop; nodes work in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.library = Library(settings)
        self.sockets = Sockets(settings.knobs)
        self.pending: list[Item] = []
        self.running: Item | None = None
        self.history: dict[str, tuple[Item, Outcome]] = {}
        self._number = 0
        self._interrupted = threading.Event()
        self._epoch = 0
        self._executor = Executor(settings, self.library, NODES, self.sockets)
        self._worker: asyncio.Task[None] | None = None

    @property
    def nodes(self) -> dict[str, Node]:
        """The node classes that imported well."""
        missing = {name.strip() for name in self.settings.knobs.missing_nodes.split(",")}
        return {name: node for name, node in NODES.items() if name not in missing}

    @property
    def current_node(self) -> str | None:
        """The node at work now."""
        return self._executor.current_node

    @property
    def remaining(self) -> int:
        """How many prompts wait or run."""
        return len(self.pending) + (self.running is not None)

    def submit(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Take a prompt; return the HTTP status and the answer.

        Raises:
            ServerTrouble: the body makes ComfyUI's own code raise.
        """
        number = (
            float(body["number"]) if "number" in body else self._next_number(front=bool(body.get("front")))
        )
        if "prompt" not in body:
            return _refuse("no_prompt", "No prompt provided", "No prompt provided")
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        if self.settings.modern and not _canonical(prompt_id):
            details = "prompt_id must be a UUID string in canonical lowercase hyphenated form"
            return _refuse("invalid_prompt_id", "prompt_id must be a valid UUID", details)
        graph = body["prompt"]
        targets = body.get("partial_execution_targets")
        verdict = validate(graph, self.nodes, self.library, modern=self.settings.modern, targets=targets)
        if verdict.error is not None:
            return 400, {"error": verdict.error, "node_errors": verdict.node_errors}
        extra = {
            name: value for name, value in (body.get("extra_data") or {}).items() if name not in SENSITIVE
        }
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        if self.settings.modern:
            extra["create_time"] = int(time.time() * 1000)
        self._enqueue(Item(number, prompt_id, graph, extra, verdict.outputs))
        return 200, {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}

    def _next_number(self, *, front: bool) -> int:
        number = -self._number if front else self._number
        self._number += 1
        return number

    def _enqueue(self, item: Item) -> None:
        bisect.insort(self.pending, item, key=lambda one: one.number)
        self.tell_status()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    async def _delay_history(self) -> None:
        """Wait as long as the knob says, also when it is turned in the meantime."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while (left := start + self.settings.knobs.history_delay_s - loop.time()) > 0:  # noqa: ASYNC110 - knobs are plain values
            await asyncio.sleep(min(left, 0.02))

    def tell_status(self) -> None:
        """Tell everybody how long the queue is."""
        self.sockets.tell("status", self.status())

    def status(self) -> dict[str, Any]:
        """Render the data of a `status` event."""
        return {"status": {"exec_info": {"queue_remaining": self.remaining}}}

    async def _work(self) -> None:
        while self.pending:
            item, epoch = self.pending.pop(0), self._epoch
            self.running = item
            self._interrupted.clear()
            self.tell_status()
            outcome = await self._executor.execute(item, self._interrupted)
            await self._delay_history()
            if epoch != self._epoch:
                continue
            self.history.pop(item.prompt_id, None)
            self.history[item.prompt_id] = (item, outcome)
            while len(self.history) > HISTORY_LIMIT:
                del self.history[next(iter(self.history))]
            self.running = None
            self.tell_status()
            if item.client_id is not None:
                self.sockets.tell("executing", {"node": None, "prompt_id": item.prompt_id}, item.client_id)

    def interrupt(self, prompt_id: str | None = None) -> bool:
        """Stop what runs, or only that prompt with an id; tell whether something was stopped."""
        if self.running is None or prompt_id not in (None, self.running.prompt_id):
            return False
        self._interrupted.set()
        return True

    def dequeue(self, prompt_ids: list[str] | None) -> bool:
        """Drop waiting prompts, all of them without ids; tell whether there was one."""
        remaining = (
            [] if prompt_ids is None else [item for item in self.pending if item.prompt_id not in prompt_ids]
        )
        dropped = len(remaining) < len(self.pending)
        self.pending = remaining
        if dropped:
            self.tell_status()
        return dropped

    def forget(self) -> None:
        """Drop cached results and loaded models."""
        self._executor.forget()

    def history_entry(self, prompt_id: str) -> dict[str, Any]:
        """Render what `/history` says about a finished prompt."""
        item, outcome = self.history[prompt_id]
        return {
            "prompt": item.to_json(),
            "outputs": outcome.outputs,
            "status": outcome.status_json(),
            "meta": outcome.meta,
        }

    def reset(self) -> None:
        """Stop and forget everything, files and knobs included; what still runs leaves no trace."""
        self.pending.clear()
        self._interrupted.set()
        self._interrupted = threading.Event()
        self._epoch += 1
        self.running = None
        self.history.clear()
        self.forget()
        self.settings.knobs.update(Knobs().to_json())
        for folder in self.settings.folders.of_files:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)


def _refuse(kind: str, message: str, details: str) -> tuple[int, dict[str, Any]]:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return 400, {"error": error, "node_errors": {}}


def _canonical(prompt_id: str) -> bool:
    try:
        return str(uuid.UUID(prompt_id)) == prompt_id
    except ValueError:
        return False
