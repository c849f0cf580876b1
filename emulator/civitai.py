"""CivitAI on loopback: model versions, look-up by hash, and downloads by redirect to the CDN."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from emulator.cdn import cdn_of
from emulator.content import Content, Plain, digest, model_file
from emulator.hub.repos import KB, MB
from emulator.numbers import whole_number
from emulator.state import State

HASH_BYTES = 8 << 20
LOGIN = "The creator of this asset requires you to be logged in to download it"
DEADLINE = "2026-12-31T00:00:00.000Z"

_catalogs: WeakKeyDictionary[State, Catalog] = WeakKeyDictionary()


@dataclass
class Version:
    """One version of one model, with one file.

    Attributes:
        kind: CivitAI's word for what it is: Checkpoint, VAE, LORA.
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

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The file's hashes, true ones, in upper case as CivitAI writes them."""
        sha256 = digest(self.content)
        crc = 0
        for offset in range(0, self.content.size, HASH_BYTES):
            crc = zlib.crc32(self.content.read(offset, HASH_BYTES), crc)
        found = {"SHA256": sha256, "AutoV2": sha256[:10], "CRC32": f"{crc:08x}"}
        return {name: text.upper() for name, text in found.items()}

    def to_json(self, base_url: str) -> dict[str, Any]:
        """Describe it as the API does."""
        url = f"{base_url}/api/download/models/{self.id}"
        file = {
            "id": self.id + 1_000_000,
            "name": self.filename,
            "type": "VAE" if self.kind == "VAE" else "Model",
            "sizeKB": self.content.size / 1024,
            "metadata": {"format": "SafeTensor", "size": "pruned", "fp": "fp16"},
            "pickleScanResult": "Success",
            "virusScanResult": "Success",
            "hashes": self.hashes,
            "downloadUrl": url,
            "primary": True,
        }
        family = self.base_model.lower().replace(" ", "")
        return {
            "id": self.id,
            "modelId": self.model_id,
            "name": "emulated",
            "baseModel": self.base_model,
            "air": f"urn:air:{family}:{self.kind.lower()}:civitai:{self.model_id}@{self.id}",
            "status": "Published",
            "availability": "EarlyAccess" if self.early_access else "Public",
            "trainedWords": [],
            "earlyAccessEndsAt": DEADLINE if self.early_access else None,
            "model": {"name": self.model_name, "type": self.kind, "nsfw": False, "poi": False},
            "files": [file],
            "images": [],
            "downloadUrl": url,
        }


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
    """Give the one catalog of an emulator."""
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
        wanted = request.path_params["hash"].upper()
        for found in list(catalog.versions.values()):
            if wanted in (await asyncio.to_thread(lambda one: one.hashes, found)).values():
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
        if request.query_params.get("format", "SafeTensor") != "SafeTensor":
            return _error(404, "Model file not found")
        if found.early_access:
            return _error(403, "Early Access", deadline=DEADLINE)
        if found.login_required and not signed_in(request):
            return _error(401, "Unauthorized", message=LOGIN)
        location = cdn.link("civitai", found.content, found.filename)
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


def control_routes(state: State) -> list[BaseRoute]:
    """Make the routes, to be mounted under `/_emulator/civitai`.

    `POST /versions` takes `{"id", "filename", "content_b64" | "size_bytes", "login_required",
    "early_access"}`, adds or replaces a version, and answers its size and hashes.
    """
    catalog = catalog_of(state)

    async def put(request: Request) -> Response:
        body = await request.json()
        filename = body["filename"]
        if "content_b64" in body:
            content: Content = Plain(base64.b64decode(body["content_b64"]))
        else:
            content = model_file(f"civitai/{body['id']}", filename, int(body["size_bytes"]))
        made = Version(int(body["id"]), 900_000, "Made by a test", filename, content)
        made.login_required = bool(body.get("login_required"))
        made.early_access = bool(body.get("early_access"))
        catalog.versions[made.id] = made
        hashes = await asyncio.to_thread(lambda: made.hashes)
        return JSONResponse({"id": made.id, "size_bytes": content.size, "hashes": hashes})

    return [Route("/versions", put, methods=["POST"])]
