"""How long a sound is, from its headers alone."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.files.audio_duration import duration_s
from tests.support.studio_models import write_wav


def flac(rate: int, samples: int) -> bytes:
    """The start of a FLAC file: STREAMINFO says rate and number of samples."""
    packed = (rate << 44) | (0 << 41) | (15 << 36) | samples
    return b"fLaC" + b"\x80\x00\x00\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(16)


def mp3(frames: int, *, xing: bool, id3_bytes: int = 0) -> bytes:
    """MPEG 1 layer III frames of 128 kbit/s at 44.1 kHz: 417 bytes and 1152 samples each."""
    head = b"\xff\xfb\x90\x00"
    first = head + bytes(32) + (b"Xing" + struct.pack(">II", 1, frames) if xing else b"")
    tag = b""
    if id3_bytes:
        size = bytes([id3_bytes >> 21 & 127, id3_bytes >> 14 & 127, id3_bytes >> 7 & 127, id3_bytes & 127])
        tag = b"ID3\x04\x00\x00" + size + bytes(id3_bytes)
    return tag + first.ljust(417, b"\0") + (head + bytes(413)) * (frames - 1)


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (flac(44_100, 44_100 * 3), 3.0),
        (flac(24_000, 12_000), 0.5),
        (flac(44_100, 0), None),
        (mp3(100, xing=True), 2.612),
        (mp3(100, xing=False), 2.606),
        (mp3(100, xing=True, id3_bytes=300), 2.612),
        (b"OggS" + bytes(100), None),
        (b"", None),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"\xff\xfb" + bytes(10), None),
    ],
)
def test_the_length_is_read(tmp_path: Path, content: bytes, seconds: float | None):
    """FLAC and MP3 in their forms; what is unknown or damaged is None and no crash."""
    path = tmp_path / "a"
    path.write_bytes(content)

    assert duration_s(path) == (None if seconds is None else pytest.approx(seconds, abs=0.001))


def test_a_wav_is_as_long_as_its_data(tmp_path):
    """Also where chunks stand before the data, and where a stream left its size open."""
    plain = write_wav(tmp_path / "a.wav", 1.5)
    content = plain.read_bytes()
    chunk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    (tmp_path / "b.wav").write_bytes(content[:12] + chunk + content[12:])
    (tmp_path / "c.wav").write_bytes(content[:40] + b"\xff\xff\xff\xff" + content[44:])

    assert [duration_s(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav")] == [1.5, 1.5, 1.5]


@pytest.mark.slow
@given(st.binary(max_size=4000), st.integers(0, 3900))
def test_no_length_is_invented(content: bytes, at: int):
    """The eleven bits that begin a frame are found in any file; alone they are no MP3."""
    start = b"OggS" + content[:at] + b"\xff\xfb\x90\x00" + content[at:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(start)

        assert duration_s(path) is None


@pytest.mark.parametrize(
    "suffix", ["wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "aiff", "webm", "mkv", "mp4"]
)
def test_real_files_have_their_length_or_none(tmp_path: Path, suffix: str):
    """As ffmpeg writes them, 2 s long, in containers that LoadAudio takes."""
    path = tmp_path / f"a.{suffix}"
    program = imageio_ffmpeg.get_ffmpeg_exe()
    sound = ["-f", "lavfi", "-i", "sine=440:duration=2"]
    subprocess.run([program, "-loglevel", "error", *sound, "-strict", "-2", str(path)], check=True)

    found = duration_s(path)

    assert (found is None) == (suffix not in {"wav", "flac", "mp3"})
    assert found is None or found == pytest.approx(2.0, abs=0.1)


def test_a_file_that_is_gone_has_no_length(tmp_path):
    """It is None, for whoever asks has something better to say."""
    assert duration_s(tmp_path / "gone") is None
