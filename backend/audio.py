"""How long an audio file is, read from its headers: WAV, FLAC and MP3. Pure reading, no decoding."""

import struct
from pathlib import Path
from typing import BinaryIO, Final

_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""MPEG version bits → sample rates."""
_MPEG1_KBIT: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBIT: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SEARCH_BYTES: Final = 64 * 1024


def duration_s(path: Path) -> float | None:
    """Give the length of an audio file in seconds; None where its format is another or is damaged."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
            if start[:4] == b"RIFF" and start[8:] == b"WAVE":
                return _wav(file)
            file.seek(_after_id3(file))
            if file.read(4) == b"fLaC":
                return _flac(file)
            file.seek(_after_id3(file))
            return _mp3(file, path.stat().st_size)
    except (OSError, struct.error, ZeroDivisionError, IndexError):
        return None


def _wav(file: BinaryIO) -> float | None:
    """Read chunks until the data: bytes of data by bytes a second."""
    byte_rate = 0
    while len(header := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        if name == b"fmt ":
            byte_rate = struct.unpack("<I", file.read(size)[8:12])[0]
            file.seek(size & 1, 1)
        elif name == b"data":
            here = file.tell()
            room = file.seek(0, 2) - here
            # A writer that streams leaves the size at its largest value.
            return float(min(size, room)) / byte_rate
        else:
            file.seek(size + (size & 1), 1)
    return None


def _flac(file: BinaryIO) -> float | None:
    """Read STREAMINFO, always the first block: 20 bits of sample rate, 36 of the number of samples."""
    block = file.read(4 + 34)[4:]
    rate = int.from_bytes(block[10:13], "big") >> 4
    samples = int.from_bytes(block[13:18], "big") & (2**36 - 1)
    return samples / rate if samples else None


def _after_id3(file: BinaryIO) -> int:
    """Where the sound starts behind an ID3v2 tag, whose size has seven bits a byte."""
    file.seek(0)
    tag = file.read(10)
    if tag[:3] != b"ID3":
        return 0
    return 10 + (tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9])


def _mp3(file: BinaryIO, size_bytes: int) -> float | None:
    """Read the first frame: the number of frames where it says so, else its bit rate for all of them."""
    start = file.tell()
    data = file.read(_SEARCH_BYTES)
    for at in range(len(data) - 4):
        if data[at] == 0xFF and data[at + 1] & 0xE6 == 0xE2:
            version, bits, rate = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
            if version == 1 or bits in (0, 15) or rate == 3:
                continue
            sample_rate = _RATES[version][rate]
            samples = 1152 if version == 3 else 576
            for tag in (b"Xing", b"Info"):
                found = data.find(tag, at, at + 200)
                if found >= 0 and data[found + 7] & 1:
                    frames = struct.unpack(">I", data[found + 8 : found + 12])[0]
                    return float(frames) * samples / sample_rate
            kbit = (_MPEG1_KBIT if version == 3 else _MPEG2_KBIT)[bits]
            return (size_bytes - start - at) * 8 / (kbit * 1000)
    return None
