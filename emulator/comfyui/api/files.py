"""`/view` and `/upload/image`: files in and out of the input, output and temp folders."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from emulator.comfyui.graph.run import Failure
from emulator.comfyui.graph.validation import ServerTrouble
from emulator.comfyui.model_files import split_kind
from emulator.comfyui.nodes.loaders import read_header
from emulator.comfyui.settings import Folders

COPY_BYTES = 1 << 20
SVG_AND_HTML = {".html": "application/octet-stream", ".svg": "application/octet-stream"}
"""Types that a browser would run are served as plain bytes."""


def view(folders: Folders, request: Request) -> Response:
    """Serve one file, whole or in ranges, or re-encoded for a preview."""
    query = request.query_params
    filename = query.get("filename")
    if not filename:
        return Response(status_code=404)
    filename, kind = split_kind(filename, query.get("type", "output"))
    folder = folders.of_type(kind)
    if folder is None or filename.startswith("/") or ".." in filename:
        return Response(status_code=400)
    inside = Path(os.path.normpath(folder / query.get("subfolder", "")))
    if not inside.is_relative_to(folder):
        return Response(status_code=403)
    path = inside / Path(filename).name
    if not path.is_file():
        return Response(status_code=404)
    if "preview" in query:
        return _preview(path, query["preview"])
    if query.get("channel", "rgba") != "rgba":
        return _channel(path, query["channel"])
    media_type = SVG_AND_HTML.get(path.suffix.lower())
    headers = {"Content-Disposition": f'filename="{path.name}"'.encode().decode("latin-1")}
    return FileResponse(path, media_type=media_type, headers=headers)


def _preview(path: Path, wish: str) -> Response:
    from PIL import Image

    format_name, _, quality = wish.partition(";")
    if format_name not in ("webp", "jpeg"):
        format_name = "webp"
    out = io.BytesIO()
    image = Image.open(path)
    image.convert("RGB").save(out, format_name.upper(), quality=int(quality) if quality.isdigit() else 90)
    return Response(out.getvalue(), media_type=f"image/{format_name}", headers=_named(path))


def _channel(path: Path, channel: str) -> Response:
    from PIL import Image

    image = Image.open(path).convert("RGBA")
    if channel == "a":
        alpha = Image.new("RGBA", image.size)
        alpha.putalpha(image.getchannel("A"))
        image = alpha
    else:
        image = image.convert("RGB")
    out = io.BytesIO()
    image.save(out, "PNG")
    return Response(out.getvalue(), media_type="image/png", headers=_named(path))


def _named(path: Path) -> dict[str, str]:
    return {"Content-Disposition": f'filename="{path.name}"'.encode().decode("latin-1")}


async def upload(folders: Folders, request: Request) -> Response:
    """Store an uploaded file under its name, or under `name (1).ext` when other bytes have the name.

    Raises:
        ServerTrouble: an unknown folder type, or a name whose folder is not there.
    """
    try:
        form = await request.form()
    except (AssertionError, KeyError):
        return Response(status_code=400)
    try:
        return await _store(folders, form)
    finally:
        await form.close()


async def _store(folders: Folders, form: FormData) -> Response:
    file = form.get("image")
    if not isinstance(file, UploadFile) or not file.filename:
        return Response(status_code=400)
    kind, subfolder = str(form.get("type", "input")), str(form.get("subfolder", ""))
    folder = folders.of_type(kind)
    if folder is None:
        raise ServerTrouble
    path = _place(folder, subfolder, file.filename)
    if path is None:
        return Response(status_code=400)
    overwrite = form.get("overwrite") in ("true", "1")
    path = await asyncio.to_thread(_write, file.file, path, overwrite=overwrite)
    return JSONResponse({"name": path.name, "subfolder": subfolder, "type": kind})


def _place(folder: Path, subfolder: str, filename: str) -> Path | None:
    """Return the path of an upload, None when it would leave the folder."""
    into = Path(os.path.normpath(folder / subfolder))
    path = Path(os.path.normpath(into / filename))
    if not into.is_relative_to(folder) or not path.is_relative_to(folder):
        return None
    into.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise ServerTrouble
    return path


def _write(source: BinaryIO, path: Path, *, overwrite: bool) -> Path:
    if not overwrite:
        stem, number = path.stem, 1
        while path.exists():
            if _same(source, path):
                return path
            path = path.with_name(f"{stem} ({number}){path.suffix}")
            number += 1
    source.seek(0)
    with path.open("wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
    return path


def _same(source: BinaryIO, path: Path) -> bool:
    source.seek(0)
    with path.open("rb") as other:
        while True:
            ours, theirs = source.read(COPY_BYTES), other.read(COPY_BYTES)
            if ours != theirs:
                return False
            if not ours:
                return True


def model_metadata(path: Path | None) -> dict[str, Any] | None:
    """Return the `__metadata__` of a safetensors file, None when there is none."""
    if path is None or path.suffix != ".safetensors":
        return None
    try:
        metadata: dict[str, Any] | None = read_header(path).get("__metadata__")
    except Failure:
        return None
    return metadata
