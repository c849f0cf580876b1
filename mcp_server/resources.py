"""Resources: the registry, the last comparison of models, and the generated files."""

import asyncio
import base64
from pathlib import Path
from typing import Final

import mcp.types as types

from backend.errors import InvalidArgument, NotSupported, SourceMissing
from mcp_server.output_dir import URI
from mcp_server.server_state import Studio
from ops.files.mime_type import mime_type

REGISTRY: Final = "comfyform://registry"
COMPARISON: Final = "comfyform://comparison"

READ_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""A larger file is not put into an answer as base64; it is on this machine, under its path."""


class Resources:
    """What a client can read."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def all(self) -> list[types.Resource]:
        """List what is there now, the generated files newest first."""
        return await asyncio.to_thread(self._all)

    def _all(self) -> list[types.Resource]:
        listed = []
        if self._studio.registry.is_file():
            listed.append(
                types.Resource(
                    uri=REGISTRY,
                    name="models-registry",
                    title="Model registry",
                    description="The models wanted, and what the last scans found.",
                    mime_type="application/yaml",
                    size=self._studio.registry.stat().st_size,
                )
            )
        if self._studio.comparison.is_file():
            listed.append(
                types.Resource(
                    uri=COMPARISON,
                    name="comparison",
                    title="Last comparison of models",
                    description="What the last call of compareModels found, whole.",
                    mime_type="application/json",
                    size=self._studio.comparison.stat().st_size,
                )
            )
        outputs = self._studio.outputs
        for path in outputs.files():
            uri = outputs.uri(path)
            if uri is not None:
                name = path.relative_to(outputs.root).as_posix()
                size = path.stat().st_size
                listed.append(types.Resource(uri=uri, name=name, mime_type=mime_type(path), size=size))
        return listed

    def templates(self) -> list[types.ResourceTemplate]:
        """Return the form of addresses that are not all listed."""
        return [
            types.ResourceTemplate(
                uri_template=URI + "{+path}",
                name="output",
                title="Generated file",
                description="An image, audio or video file that a tool made, by its path in the outputs.",
            )
        ]

    async def read(self, uri: str) -> types.TextResourceContents | types.BlobResourceContents:
        """Read a resource.

        Raises:
            InvalidArgument: the address is unknown.
            SourceMissing: what it names is not there.
            NotSupported: it is too large to be sent; the message says where it lies.
        """
        return await asyncio.to_thread(self._read, uri)

    def _read(self, uri: str) -> types.TextResourceContents | types.BlobResourceContents:
        if uri == REGISTRY:
            return self._text(uri, self._studio.registry, "application/yaml")
        if uri == COMPARISON:
            return self._text(uri, self._studio.comparison, "application/json")
        if not uri.startswith(URI):
            raise InvalidArgument(
                f"Unknown resource {uri!r}.", hint="List the resources to see what is available."
            )
        path = self._studio.outputs.at(uri)
        size = path.stat().st_size
        if size > READ_LIMIT_BYTES:
            raise NotSupported(
                f"{path.name} has {size} bytes, more than the {READ_LIMIT_BYTES} that are sent.",
                hint=f"It is on this machine: {path}",
            )
        kind = mime_type(path)
        if kind.startswith("text/"):
            return self._text(uri, path, kind)
        blob = base64.b64encode(path.read_bytes()).decode()
        return types.BlobResourceContents(uri=uri, mime_type=kind, blob=blob)

    def _text(self, uri: str, path: Path, kind: str) -> types.TextResourceContents:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            hint = "Call compareModels first." if uri == COMPARISON else "Start the server with --registry."
            raise SourceMissing(f"{path} does not exist.", path=str(path), hint=hint) from None
        return types.TextResourceContents(uri=uri, mime_type=kind, text=text)
