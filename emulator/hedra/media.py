"""What Hedra's models would have made: real pictures, speech and films from the ComfyUI stand-in's tools."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

from emulator.comfyui.graph.values import Film, Picture
from emulator.comfyui.media import audio_synthesis, image_rendering, video_encoding
from emulator.document import Document

FPS = 25
SIDES = {"1K": 1024, "2K": 2048, "4K": 4096}
SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"RIFF", "audio/wav"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
)


@dataclass(frozen=True, slots=True)
class Made:
    """A finished output; lengths that do not apply are None."""

    data: bytes
    content_type: str
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    fps: int | None = None


def sniff(data: bytes) -> str | None:
    """Tell a file's type from its first bytes, as Hedra does; None when it takes no such file."""
    if data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return "video/mp4"
    return next((kind for start, kind in SIGNATURES if data.startswith(start)), None)


def size(settings: Document) -> tuple[int, int]:
    """Return width and height, even, for an aspect ratio and a resolution: that of the shorter side."""
    across, down = (int(part) for part in settings["aspect_ratio"].split(":"))
    name = settings.get("resolution", "1K")
    side = SIDES.get(name) or int(name.partition("p")[0])
    scale = side / min(across, down)
    return round(across * scale / 2) * 2, round(down * scale / 2) * 2


def seconds_of(audio: bytes) -> float:
    """Tell how long an audio file is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audio"
        path.write_bytes(audio)
        return audio_synthesis.read(path).seconds


def picture(settings: Document, seed: int) -> Made:
    """Draw an image."""
    width, height = size(settings)
    image = image_rendering.portrait(settings["prompt"], settings.get("seed", seed), width, height, "hedra")
    kind = settings.get("output_format", "png")
    out = io.BytesIO()
    image.save(out, kind)
    return Made(out.getvalue(), f"image/{kind}", width, height)


def speech(settings: Document) -> Made:
    """Hum a text."""
    seed = sum(settings["voice_id"].encode())
    spoken = audio_synthesis.speak(settings["text"], seed, 1 / settings.get("speed", 1.0))
    return Made(audio_synthesis.wav(spoken), "audio/wav", duration_ms=round(spoken.seconds * 1000))


def avatar(settings: Document, image: bytes, audio: bytes) -> Made:
    """Make a film of a picture that speaks."""
    from PIL import Image, ImageOps

    width, height = size(settings)
    with tempfile.TemporaryDirectory() as folder:
        heard = Path(folder) / "audio"
        heard.write_bytes(audio)
        spoken = audio_synthesis.read(heard)
        seconds = settings.get("duration_ms", spoken.seconds * 1000) / 1000
        spoken = audio_synthesis.cut(spoken, 0, seconds)
        face = ImageOps.fit(Image.open(io.BytesIO(image)).convert("RGB"), (width, height))
        count = max(1, round(seconds * FPS))
        openings = audio_synthesis.loudness(spoken, count, FPS)
        frames = Picture(
            width, height, count, lambda index: image_rendering.with_mouth(face, openings[index])
        )
        path = Path(folder) / "film.mp4"
        video_encoding.write(Film(frames, FPS, spoken), path, video_encoding.H264, lambda: None)
        return Made(path.read_bytes(), "video/mp4", width, height, round(seconds * 1000), FPS)
