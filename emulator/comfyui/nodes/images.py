"""Nodes that make, read, change and save pictures."""

from __future__ import annotations

import hashlib
import io
import random
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from emulator.comfyui.graph.run import Failure, Run
from emulator.comfyui.graph.values import Latent, Picture, Shown, Weights
from emulator.comfyui.media import image_rendering
from emulator.comfyui.model_files import Library
from emulator.comfyui.nodes.declarations import choice, integer, link, node, text, upload

if TYPE_CHECKING:
    from PIL.Image import Image

TEMP_SUFFIX = "".join(random.choices(string.ascii_lowercase, k=5))
"""Part of the names of previews, new with each start of the server."""
RESAMPLING = {"nearest-exact": 0, "bilinear": 2, "area": 4, "bicubic": 3, "lanczos": 1}
"""ComfyUI's words → Pillow's `Image.Resampling` numbers."""


def _image_exists(library: Library, inputs: Mapping[str, Any]) -> tuple[str, str] | None:
    name = inputs.get("image")
    if not isinstance(name, str) or library.input_file(name) is not None:
        return None
    return "image", f"Invalid image file: {name}"


def _image_bytes(library: Library, inputs: Mapping[str, Any]) -> object:
    path = library.input_file(inputs["image"])
    return path and hashlib.sha256(path.read_bytes()).hexdigest()


@node(
    "LoadImage",
    inputs={"image": upload("image")},
    outputs=("IMAGE", "MASK"),
    category="image",
    title="Load Image",
    check=_image_exists,
    changes=_image_bytes,
)
def load_image(run: Run, image: str) -> tuple[Picture, Picture]:
    """Read a picture of the input folder."""
    from PIL import Image, UnidentifiedImageError

    path = run.library.input_file(image)
    if path is None:
        raise Failure(
            "FileNotFoundError", f"[Errno 2] No such file or directory: '{run.folders.input / image}'"
        )
    try:
        pixels = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    except UnidentifiedImageError:
        raise Failure("PIL.UnidentifiedImageError", f"cannot identify image file '{path}'") from None
    picture = Picture(pixels.width, pixels.height, 1, lambda _: pixels)
    return picture, picture


@node(
    "EmptyImage",
    inputs={
        "width": integer(512, 1, 16384, 1),
        "height": integer(512, 1, 16384, 1),
        "batch_size": integer(1, 1, 4096),
        "color": integer(0, 0, 0xFFFFFF, 1, display="color"),
    },
    outputs=("IMAGE",),
    category="image",
    title="Empty Image",
)
def empty_image(run: Run, width: int, height: int, batch_size: int, color: int) -> tuple[Picture]:
    """Make a picture of one colour."""
    return (Picture(width, height, batch_size, lambda _: image_rendering.flat(color, width, height)),)


@node(
    "ImageScale",
    inputs={
        "image": link("IMAGE"),
        "upscale_method": choice(*RESAMPLING),
        "width": integer(512, 0, 16384, 1),
        "height": integer(512, 0, 16384, 1),
        "crop": choice("disabled", "center"),
    },
    outputs=("IMAGE",),
    category="image/upscaling",
    title="Upscale Image",
)
def image_scale(
    run: Run, image: Picture, upscale_method: str, width: int, height: int, crop: str
) -> tuple[Picture]:
    """Change a picture's size; a side of 0 follows the other."""
    if not width and not height:
        return (image,)
    wide = width or max(1, round(image.width * height / image.height))
    high = height or max(1, round(image.height * width / image.width))

    def draw(index: int) -> Image:
        from PIL import Image, ImageOps

        method = Image.Resampling(RESAMPLING[upscale_method])
        frame = image.draw(index)
        if crop == "center":
            return ImageOps.fit(frame, (wide, high), method)
        return frame.resize((wide, high), method)

    return (Picture(wide, high, image.count, draw),)


@node(
    "ImageUpscaleWithModel",
    inputs={"upscale_model": link("UPSCALE_MODEL"), "image": link("IMAGE")},
    outputs=("IMAGE",),
    category="image/upscaling",
    title="Upscale Image (using Model)",
    module="comfy_extras.nodes_upscale_model",
)
def image_upscale_with_model(run: Run, upscale_model: Weights, image: Picture) -> tuple[Picture]:
    """Make a picture four times as wide, as an x4 upscaler does."""
    return image_scale(run, image, "lanczos", image.width * 4, image.height * 4, "disabled")  # type: ignore[no-any-return]


@node(
    "VAEDecode",
    inputs={"samples": link("LATENT"), "vae": link("VAE")},
    outputs=("IMAGE",),
    category="model/latent",
    title="VAE Decode",
)
def vae_decode(run: Run, samples: Latent, vae: Weights) -> tuple[Picture]:
    """Turn a latent into pictures; one that was never sampled is grey."""
    grey = Picture(
        samples.width,
        samples.height,
        samples.count,
        lambda _: image_rendering.flat(0x7F7F7F, samples.width, samples.height),
    )
    return (samples.picture or grey,)


@node(
    "VAEEncode",
    inputs={"pixels": link("IMAGE"), "vae": link("VAE")},
    outputs=("LATENT",),
    category="model/latent",
    title="VAE Encode",
)
def vae_encode(run: Run, pixels: Picture, vae: Weights) -> tuple[Latent]:
    """Turn pictures into a latent."""
    return (Latent(pixels.width // 8 * 8, pixels.height // 8 * 8, pixels.count, pixels),)


def _png(run: Run, image: Image) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for name, value in run.metadata.items():
        chunks.add_text(name, value)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=chunks, compress_level=1)
    return out.getvalue()


def _save(run: Run, images: Picture, prefix: str, kind: str) -> dict[str, list[Any]]:
    place = run.place(prefix, kind=kind, width=images.width, height=images.height)
    shown = []
    for index in range(images.count):
        run.check()
        name = f"{place.stem}_{place.counter + index:05}_.png"
        (place.folder / name).write_bytes(_png(run, images.draw(index)))
        shown.append({"filename": name, "subfolder": place.subfolder, "type": kind})
    return {"images": shown}


@node(
    "SaveImage",
    inputs={"images": link("IMAGE"), "filename_prefix": text("ComfyUI")},
    outputs=("IMAGE",),
    names=("images",),
    category="image",
    title="Save Image",
    is_output=True,
    passes_through=True,
)
def save_image(run: Run, images: Picture, filename_prefix: str) -> Shown:
    """Write PNG files to the output folder, the prompt in a text chunk."""
    return Shown((images,), _save(run, images, filename_prefix, "output"))


@node(
    "PreviewImage",
    inputs={"images": link("IMAGE")},
    outputs=("IMAGE",),
    names=("images",),
    category="image",
    title="Preview Image",
    is_output=True,
    passes_through=True,
)
def preview_image(run: Run, images: Picture) -> Shown:
    """Write PNG files to the temp folder."""
    return Shown((images,), _save(run, images, f"ComfyUI_temp_{TEMP_SUFFIX}", "temp"))


@node(
    "SaveImageWebsocket",
    inputs={"images": link("IMAGE")},
    category="image",
    title="Save Image (Websocket)",
    module="custom_nodes.websocket_image_save",
    is_output=True,
)
def save_image_websocket(run: Run, images: Picture) -> Shown:
    """Send pictures over the websocket instead of writing them; history shows nothing."""
    for index in range(images.count):
        run.send_image(_png(run, images.draw(index)))
    return Shown((), {})
