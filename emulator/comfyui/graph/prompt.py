"""One prompt: as it waits in the queue, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from emulator.comfyui.graph.validation import Graph


@dataclass(slots=True)
class Item:
    """One prompt in the queue."""

    number: float
    prompt_id: str
    graph: Graph
    extra_data: dict[str, Any]
    outputs: list[str]

    @property
    def client_id(self) -> str | None:
        """Whose websocket hears of it."""
        return self.extra_data.get("client_id")

    def to_json(self) -> list[Any]:
        """Render the five-tuple of `/queue` and `/history`."""
        return [self.number, self.prompt_id, self.graph, self.extra_data, self.outputs]


@dataclass(slots=True)
class Outcome:
    """What came of one prompt."""

    status: str = "success"
    outputs: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def status_json(self) -> dict[str, Any]:
        """Render the `status` of a history entry."""
        return {
            "status_str": self.status,
            "completed": self.status == "success",
            "messages": [list(message) for message in self.messages],
        }
