"""The one door to ffmpeg: audio decoded and encoded, frames made into films. Blocking; nodes run in a thread.

The program comes with the imageio-ffmpeg package, imported late because only sound and film need it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from emulator.comfyui.graph.run import Failure

STDERR_BYTES = 2000


def _program() -> str:
    try:
        import imageio_ffmpeg
    except ImportError:
        message = "ffmpeg is required for audio and video: pip install imageio-ffmpeg"
        raise Failure("ProcessLookupError", message) from None
    program: str = imageio_ffmpeg.get_ffmpeg_exe()
    return program


def run(arguments: Sequence[str], feed: Iterable[bytes] = ()) -> bytes:
    """Run ffmpeg, feed its standard input, and return its standard output.

    Raises:
        Failure: ffmpeg is not there, or could not do it.
    """
    command = [_program(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    if feed:
        command.remove("-nostdin")
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        if process.stdin is not None:
            try:
                for piece in feed:
                    process.stdin.write(piece)
                process.stdin.close()
            except BrokenPipeError:
                pass
            process.stdin = None
        output, complaint = process.communicate()
    finally:
        # An interrupt comes up through `feed`.
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode:
        raise Failure("RuntimeError", f"ffmpeg: {complaint.decode(errors='replace')[-STDERR_BYTES:].strip()}")
    return output


def decode(path: Path, rate: int) -> bytes:
    """Return the sound of a file as signed 16-bit mono samples."""
    return run(["-i", str(path), "-vn", "-f", "s16le", "-ac", "1", "-ar", str(rate), "-"])


def encode(samples: bytes, rate: int, path: Path, codec: Sequence[str]) -> None:
    """Write signed 16-bit mono samples to a file with a codec's arguments."""
    sound = ["-f", "s16le", "-ar", str(rate), "-ac", "1", "-i", "-"]
    run([*sound, *codec, str(path)], [samples])
