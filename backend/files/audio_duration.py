"""How long an audio file is, read from its headers: WAV, FLAC and MP3. Pure reading, no decoding."""

import struct
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""MPEG version bits → sample rates."""
_MPEG1_KBIT: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBIT: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SEARCH_BYTES: Final = 64 * 1024


def duration_s(path: Path) -> float | None:
    """Return the length of an audio file in seconds; None where its format is another or is damaged."""
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
    """Read the first frame: the number of frames where it says so, else its bit rate for all of them.

    Frames start where the tag ends, apart from padding of zeros, and the next one follows at the first one's
    length: eleven bits alone are found in any file.
    """
    start = file.tell()
    data = file.read(_SEARCH_BYTES)
    at = len(data) - len(data.lstrip(b"\0"))
    frame = _frame(data, at)
    if frame is None or _frame(data, at + frame.length) is None:
        return None
    for tag in (b"Xing", b"Info"):
        found = data.find(tag, at, at + 200)
        if found >= 0 and data[found + 7] & 1:
            frames = struct.unpack(">I", data[found + 8 : found + 12])[0]
            return float(frames) * frame.samples / frame.sample_rate
    return (size_bytes - start - at) * 8 / frame.bit_rate


class _Frame(NamedTuple):
    length: int
    samples: int
    sample_rate: int
    bit_rate: int


def _frame(data: bytes, at: int) -> _Frame | None:
    """Read the header of an MPEG layer III frame, or None. Source: ISO/IEC 11172-3, 2.4.1.3."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    version, bits, rate = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or bits in (0, 15) or rate == 3:
        return None
    sample_rate = _RATES[version][rate]
    samples = 1152 if version == 3 else 576
    bit_rate = (_MPEG1_KBIT if version == 3 else _MPEG2_KBIT)[bits] * 1000
    padding = data[at + 2] >> 1 & 1
    return _Frame(samples // 8 * bit_rate // sample_rate + padding, samples, sample_rate, bit_rate)
