"""Speech without a voice: a hum that rises and falls with the words, as long as they would take to say."""

from __future__ import annotations

import array
import io
import math
import random
import struct
import wave
from pathlib import Path

from emulator.comfyui.graph.values import Sound
from emulator.comfyui.media import ffmpeg

RATE = 24_000
LETTER_S = 0.065
"""A letter, spoken at a usual pace of some 15 in a second."""
PAUSES_S = {" ": 0.06, ",": 0.2, ";": 0.2, ":": 0.2, ".": 0.35, "!": 0.35, "?": 0.35, "\n": 0.4}
LOUD = 9000


def speak(text: str, seed: int, stretch: float = 1.0) -> Sound:
    """Hum a text; the same text, seed and stretch give the same samples.

    Args:
        stretch: above 1 is slower.
    """
    dice = random.Random(f"{seed}/{text}")
    ground = dice.uniform(95, 210)
    samples = array.array("h")
    for letter in text or " ":
        if letter in PAUSES_S:
            samples.frombytes(bytes(2 * int(RATE * PAUSES_S[letter] * stretch)))
            continue
        pitch = ground * (1 + (ord(letter) % 13 - 6) / 60)
        count = int(RATE * LETTER_S * stretch)
        loud = LOUD * (1.0 if letter.lower() in "aeiouyäöü" else 0.45)
        step = 2 * math.pi * pitch / RATE
        fade = math.pi / count
        samples.extend(
            int(loud * math.sin(fade * at) * (math.sin(step * at) + 0.4 * math.sin(2 * step * at)))
            for at in range(count)
        )
    return Sound(samples.tobytes(), RATE)


def silence(seconds: float, rate: int) -> Sound:
    """Return nothing to hear."""
    return Sound(bytes(2 * int(seconds * rate)), rate)


def cut(sound: Sound, start_s: float, seconds: float) -> Sound:
    """Return a part of a sound."""
    first = 2 * int(start_s * sound.rate)
    return Sound(sound.samples[first : first + 2 * int(seconds * sound.rate)], sound.rate)


def read(path: Path) -> Sound:
    """Read any audio file; plain 16-bit mono WAV without ffmpeg."""
    try:
        with wave.open(str(path)) as file:
            if file.getnchannels() == 1 and file.getsampwidth() == 2:
                return Sound(file.readframes(file.getnframes()), file.getframerate())
    except (wave.Error, EOFError):
        pass
    return Sound(ffmpeg.decode(path, RATE), RATE)


def wav(sound: Sound) -> bytes:
    """Write a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(sound.samples)
    return out.getvalue()


def loudness(sound: Sound, frames: int, fps: float) -> list[float]:
    """Tell how loud a sound is during each frame of a film, from 0 to 1."""
    found = []
    for frame in range(frames):
        part = cut(sound, frame / fps, 1 / fps).samples
        values = struct.unpack(f"<{len(part) // 2}h", part[: len(part) // 2 * 2])[::8]
        mean = math.sqrt(sum(value * value for value in values) / len(values)) if values else 0.0
        found.append(min(1.0, mean / (LOUD / 2)))
    return found
