"""CivitAI on loopback: model versions, look-up by hash, and downloads by redirect to the CDN."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from emulator.files.cdn import cdn_of
from emulator.files.content import Content, Plain, digest, model_file
from emulator.hub.repos import KB, MB
from emulator.numbers import whole_number
from emulator.state import State

HASH_BYTES = 8 << 20
LOGIN = "The creator of this asset requires you to be logged in to download it"
METADATA = {"format": "SafeTensor", "size": "pruned", "fp": "fp16"}
CHOICES = ("fileId", "type", "format", "size", "fp")
DEADLINE = "2026-12-31T00:00:00.000Z"

_catalogs: WeakKeyDictionary[State, Catalog] = WeakKeyDictionary()


@dataclass
class OtherFile:
    """A file of a version beside its primary one, chosen by its id or by its properties."""

    id: int
    name: str
    content: Content
    metadata: dict[str, str]
    kind: str = "Model"

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The file's hashes; see `_hashes`."""
        return _hashes(self.content)


@dataclass
class Version:
    """One version of one model, with its files.

    Attributes:
        kind: CivitAI's word for what it is: Checkpoint, VAE, LORA.
        others: files beside the primary one.
        words: trigger words.
        login_required: only signed-in users may download it.
        early_access: nobody may download it yet.
    """

    id: int
    model_id: int
    model_name: str
    filename: str
    content: Content
    kind: str = "Checkpoint"
    base_model: str = "SD 1.5"
    login_required: bool = False
    early_access: bool = False
    others: tuple[OtherFile, ...] = ()
    words: tuple[str, ...] = ()

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The primary file's hashes; see `_hashes`."""
        return _hashes(self.content)

    def has_hash(self, wanted: str) -> bool:
        """Tell whether one of its files has a hash, in upper case."""
        return any(
            wanted in hashes.values() for hashes in (self.hashes, *(one.hashes for one in self.others))
        )

    def file_for(self, query: Mapping[str, str]) -> tuple[str, Content] | None:
        """Return name and content of the file that a download's query means, or None."""
        primary = {"fileId": str(self.id + 1_000_000), "type": _kind(self.kind)} | METADATA
        listed: list[tuple[dict[str, str], str, Content]] = [(primary, self.filename, self.content)]
        for other in self.others:
            about = {"fileId": str(other.id), "type": other.kind} | other.metadata
            listed.append((about, other.name, other.content))
        for about, name, content in listed:
            if all(about.get(key) == value for key, value in query.items() if key in CHOICES):
                return name, content
        return None

    def to_json(self, base_url: str) -> dict[str, Any]:
        """Describe it as the API does."""
        url = f"{base_url}/api/download/models/{self.id}"
        file = {
            "id": self.id + 1_000_000,
            "name": self.filename,
            "type": _kind(self.kind),
            "sizeKB": self.content.size / 1024,
            "metadata": METADATA,
            "pickleScanResult": "Success",
            "virusScanResult": "Success",
            "hashes": self.hashes,
            "downloadUrl": url,
            "primary": True,
        }
        others = [
            {
                "id": other.id,
                "name": other.name,
                "type": other.kind,
                "sizeKB": other.content.size / 1024,
                "metadata": other.metadata,
                "hashes": other.hashes,
                "downloadUrl": f"{url}?{urlencode({'type': other.kind, **other.metadata})}",
            }
            for other in self.others
        ]
        family = self.base_model.lower().replace(" ", "")
        return {
            "id": self.id,
            "modelId": self.model_id,
            "name": "emulated",
            "baseModel": self.base_model,
            "air": f"urn:air:{family}:{self.kind.lower()}:civitai:{self.model_id}@{self.id}",
            "status": "Published",
            "availability": "EarlyAccess" if self.early_access else "Public",
            "trainedWords": list(self.words),
            "earlyAccessEndsAt": DEADLINE if self.early_access else None,
            "model": {"name": self.model_name, "type": self.kind, "nsfw": False, "poi": False},
            "files": [file, *others],
            "images": [],
            "downloadUrl": url,
        }


def _kind(kind: str) -> str:
    return "VAE" if kind == "VAE" else "Model"


def _hashes(content: Content) -> dict[str, str]:
    """A file's hashes, true ones, in upper case as CivitAI writes them."""
    sha256 = digest(content)
    crc = 0
    for offset in range(0, content.size, HASH_BYTES):
        crc = zlib.crc32(content.read(offset, HASH_BYTES), crc)
    found = {"SHA256": sha256, "AutoV2": sha256[:10], "CRC32": f"{crc:08x}"}
    return {name: text.upper() for name, text in found.items()}


def _listed() -> Iterator[Version]:
    vae = model_file("madebyollin/sdxl-vae-fp16-fix/sdxl_vae.safetensors", "sdxl_vae.safetensors", 400 * KB)
    svd = model_file("stable-video-diffusion-img2vid-xt-1-1", "svd_xt_1_1.safetensors", 4 * MB)
    dream = model_file("dreamshaper_8", "dreamshaper_8.safetensors", 3 * MB, "stable-diffusion-v1")
    style = model_file("style", "style.safetensors", 200 * KB, "stable-diffusion-v1/lora")
    soon = model_file("soon", "soon.safetensors", 200 * KB)
    yield Version(128713, 4384, "DreamShaper", "dreamshaper_8.safetensors", dream)
    yield Version(290640, 260267, "SDXL VAE", "sdxl_vae.safetensors", vae, "VAE", "SDXL 1.0")
    yield Version(329995, 207992, "SVD XT 1.1", "svd_xt_1_1.safetensors", svd, login_required=True)
    yield Version(500001, 500000, "A style", "style.safetensors", style, "LORA", login_required=True)
    yield Version(500002, 500000, "Not yet", "soon.safetensors", soon, "LORA", early_access=True)


class Catalog:
    """All versions, by id."""

    def __init__(self) -> None:
        self.versions: dict[int, Version] = {}
        self.reset()

    def reset(self) -> None:
        """Go back to the versions of the table."""
        self.versions = {version.id: version for version in _listed()}


def catalog_of(state: State) -> Catalog:
    """Return the one catalog of an emulator."""
    if state not in _catalogs:
        _catalogs[state] = catalog = Catalog()
        state.on_reset.append(catalog.reset)
    return _catalogs[state]


def _error(status: int, error: str, **more: str) -> Response:
    return JSONResponse({"error": error, **more}, status)


def app(state: State) -> Starlette:
    """Make the plane."""
    catalog, cdn = catalog_of(state), cdn_of(state)

    def signed_in(request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        token = bearer if scheme.lower() == "bearer" else request.query_params.get("token", "")
        return token == state.keys.civitai_token

    def base_url(request: Request) -> str:
        return state.url + str(request.scope.get("root_path", ""))

    async def version(request: Request) -> Response:
        found = catalog.versions.get(request.path_params["version_id"])
        if found is None:
            return _error(404, f"No model with id {request.path_params['version_id']}")
        return JSONResponse(await asyncio.to_thread(found.to_json, base_url(request)))

    async def by_hash(request: Request) -> Response:
        required = request.path_params["hash"].upper()
        for found in list(catalog.versions.values()):
            if await asyncio.to_thread(found.has_hash, required):
                return JSONResponse(found.to_json(base_url(request)))
        return _error(404, "Model not found")

    async def me(request: Request) -> Response:
        if not signed_in(request):
            return _error(401, "Unauthorized")
        return JSONResponse({"id": 1, "username": "emulated", "tier": "free", "status": "active"})

    async def download(request: Request) -> Response:
        text = request.path_params["version_id"]
        number = whole_number(text)
        if number is None:
            return _error(400, f"Invalid id: {text}")
        found = catalog.versions.get(number)
        if found is None:
            return _error(404, "Model not found")
        file = found.file_for(request.query_params)
        if file is None:
            return _error(404, "Model file not found")
        if found.early_access:
            return _error(403, "Early Access", deadline=DEADLINE)
        if found.login_required and not signed_in(request):
            return _error(401, "Unauthorized", message=LOGIN)
        location = cdn.link("civitai", file[1], file[0])
        return Response(status_code=307, headers={"Location": location})

    async def unknown(request: Request) -> Response:
        return _error(501, f"The emulated CivitAI has no {request.method} {request.url.path}")

    return Starlette(
        routes=[
            Route("/api/v1/model-versions/{version_id:int}", version),
            Route("/api/v1/model-versions/by-hash/{hash}", by_hash),
            Route("/api/v1/me", me),
            Route("/api/download/models/{version_id}", download),
            Route("/{rest:path}", unknown, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
        ]
    )


def _content(body: dict[str, Any], filename: str) -> Content:
    """Make a file's content from a control request."""
    if "content_b64" in body:
        return Plain(base64.b64decode(body["content_b64"]))
    return model_file(f"civitai/{body['id']}", filename, int(body["size_bytes"]))


def control_routes(state: State) -> list[BaseRoute]:
    """Make the routes, to be mounted under `/_emulator/civitai`.

    `POST /versions` takes `{"id", "filename", "content_b64" | "size_bytes", "login_required",
    "early_access", "words", "others": [{"id", "name", "size_bytes" | "content_b64", "metadata"}]}`, adds or
    replaces a version, and answers its size and hashes.
    """
    catalog = catalog_of(state)

    async def put(request: Request) -> Response:
        body = await request.json()
        filename = body["filename"]
        content = _content(body, filename)
        created = Version(int(body["id"]), 900_000, "Made by a test", filename, content)
        created.login_required = bool(body.get("login_required"))
        created.early_access = bool(body.get("early_access"))
        created.words = tuple(body.get("words") or ())
        created.others = tuple(
            OtherFile(
                int(other["id"]), other["name"], _content(other, other["name"]), other.get("metadata", {})
            )
            for other in body.get("others") or ()
        )
        catalog.versions[created.id] = created
        hashes = await asyncio.to_thread(lambda: created.hashes)
        return JSONResponse({"id": created.id, "size_bytes": content.size, "hashes": hashes})

    return [Route("/versions", put, methods=["POST"])]
