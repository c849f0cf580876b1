"""Who listens on `/ws`, and what they are told.

The order and the gaps are ComfyUI's own, its reconnect bug included:
when a client opens a second socket under its id before the first has closed,
the end of the first takes the second off the list, and it stays silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from emulator.comfyui.settings import Knobs

PREVIEW_IMAGE = 1
PREVIEW_WITH_METADATA = 4
JPEG, PNG = 1, 2

Message = str | bytes


@dataclass(slots=True)
class Listener:
    """One open socket."""

    outbox: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    wants_metadata: bool = False


class Sockets:
    """All open sockets by client id."""

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._listeners: dict[str, Listener] = {}

    def tell(self, event: str, data: dict[str, Any], client_id: str | None = None) -> None:
        """Send an event to one client, or to everybody without an id."""
        self._send(json.dumps({"type": event, "data": data}), client_id)

    def send_image(self, kind: int, image: bytes, client_id: str | None) -> None:
        """Send an image without metadata."""
        self._send(struct.pack(">II", PREVIEW_IMAGE, kind) + image, client_id)

    def send_preview(self, image: bytes, metadata: dict[str, Any], client_id: str | None) -> None:
        """Send a preview with metadata."""
        head = json.dumps(metadata | {"image_type": "image/jpeg"}).encode()
        self._send(struct.pack(">II", PREVIEW_WITH_METADATA, len(head)) + head + image, client_id)

    def wants_metadata(self, client_id: str | None) -> bool:
        """Tell whether a client asked for previews with metadata in its first message."""
        listener = self._listeners.get(client_id or "")
        return listener is not None and listener.wants_metadata

    def _send(self, message: Message, client_id: str | None) -> None:
        listeners = list(self._listeners.values()) if client_id is None else [self._listeners.get(client_id)]
        for listener in listeners:
            if listener is not None:
                listener.outbox.put_nowait(message)

    def attach(self, client_id: str) -> Listener:
        """Listen without a socket, from inside the emulator."""
        self._listeners[client_id] = listener = Listener(wants_metadata=True)
        return listener

    def detach(self, client_id: str) -> None:
        """Stop listening."""
        self._listeners.pop(client_id, None)

    async def serve(
        self, socket: WebSocket, greeting: list[tuple[str, dict[str, Any]]], features: Any
    ) -> None:
        """Talk to one client until it goes.

        Args:
            greeting: events that are sent at once, before anything else.
            features: answer to a client that begins with its own feature flags.
        """
        await socket.accept()
        client_id = socket.query_params.get("clientId") or uuid.uuid4().hex
        listener = Listener()
        self._listeners[client_id] = listener
        for event, data in greeting:
            sid = {"sid": client_id} if event == "status" else {}
            listener.outbox.put_nowait(json.dumps({"type": event, "data": data | sid}))
        writer = asyncio.create_task(self._write(socket, listener))
        try:
            await _read(socket, listener, features)
        finally:
            writer.cancel()
            self._listeners.pop(client_id, None)

    async def _write(self, socket: WebSocket, listener: Listener) -> None:
        # A client that is gone is noticed by the reader.
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                message = await listener.outbox.get()
                if self._knobs.mute_sockets:
                    continue
                if isinstance(message, str):
                    await socket.send_text(message)
                else:
                    await socket.send_bytes(message)


async def _read(socket: WebSocket, listener: Listener, features: Any) -> None:
    first = True
    while True:
        try:
            message = await socket.receive_json()
        except WebSocketDisconnect:
            return
        except (ValueError, KeyError):
            first = False
            continue
        if first and isinstance(message, dict) and message.get("type") == "feature_flags":
            listener.wants_metadata = bool(message.get("data", {}).get("supports_preview_metadata"))
            listener.outbox.put_nowait(json.dumps({"type": "feature_flags", "data": features}))
        first = False
