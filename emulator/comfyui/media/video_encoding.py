"""Films: frames and sound into MP4, WebM, GIF or WebP files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from emulator.comfyui.graph.values import Film, Picture
from emulator.comfyui.media import audio_synthesis, ffmpeg

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
EVEN = ("-vf", "scale=trunc(iw/2)*2:trunc(ih/2)*2")
"""H.264 in 4:2:0 has no odd sides."""


def write(film: Film, path: Path, codec: tuple[str, ...], check: Callable[[], None]) -> None:
    """Encode a film.

    Args:
        codec: ffmpeg's arguments for the picture; sound becomes AAC in MP4, Opus in WebM.
        check: called before each frame; raises when the work is to stop.
    """
    frames = film.frames
    size = f"{frames.width}x{frames.height}"
    video = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(film.fps), "-i", "-"]
    with tempfile.TemporaryDirectory() as folder:
        audio: list[str] = []
        if film.sound is not None:
            heard = Path(folder) / "sound.wav"
            heard.write_bytes(audio_synthesis.wav(film.sound))
            audio = ["-i", str(heard), "-shortest", "-c:a", "libopus" if path.suffix == ".webm" else "aac"]
        ffmpeg.run([*video, *audio, *EVEN, *codec, str(path)], _pixels(frames, check))


def add_sound(silent: Path, path: Path, film: Film) -> None:
    """Put sound beside the picture of an MP4 that has none, without encoding the picture again."""
    if film.sound is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        heard = Path(folder) / "sound.wav"
        heard.write_bytes(audio_synthesis.wav(film.sound))
        ffmpeg.run(["-i", str(silent), "-i", str(heard), "-c:v", "copy", "-c:a", "aac", str(path)])


def write_animation(film: Film, path: Path, check: Callable[[], None]) -> None:
    """Write a GIF or WebP that moves."""
    images = [film.frames.draw(index).convert("RGB") for index in range(film.frames.count)]
    check()
    first, *rest = images
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / film.fps), loop=0)


def _pixels(frames: Picture, check: Callable[[], None]) -> Iterator[bytes]:
    for index in range(frames.count):
        check()
        yield frames.draw(index).convert("RGB").tobytes()
