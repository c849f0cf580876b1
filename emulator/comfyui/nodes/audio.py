"""Nodes that read, make, cut and save sound."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from emulator.comfyui.graph.run import Failure, Run
from emulator.comfyui.graph.values import Shown, Sound
from emulator.comfyui.media import audio_synthesis, ffmpeg
from emulator.comfyui.model_files import Library
from emulator.comfyui.nodes.declarations import choice, integer, link, node, number, text, upload
from emulator.comfyui.nodes.images import TEMP_SUFFIX

MODULE = "comfy_extras.nodes_audio"
MP3 = {"V0": ("-q:a", "0"), "128k": ("-b:a", "128k"), "320k": ("-b:a", "320k")}
OPUS = ("64k", "96k", "128k", "192k", "320k")


def _audio_exists(library: Library, inputs: Mapping[str, Any]) -> tuple[str, str] | None:
    name = inputs.get("audio")
    if not isinstance(name, str) or library.input_file(name) is not None:
        return None
    return "audio", f"Invalid audio file: {name}"


def _audio_bytes(library: Library, inputs: Mapping[str, Any]) -> object:
    path = library.input_file(inputs["audio"])
    return path and hashlib.sha256(path.read_bytes()).hexdigest()


@node(
    "LoadAudio",
    inputs={"audio": upload("audio")},
    outputs=("AUDIO",),
    category="audio",
    title="Load Audio",
    module=MODULE,
    combos="new since 0.29",
    check=_audio_exists,
    changes=_audio_bytes,
)
def load_audio(run: Run, audio: str) -> tuple[Sound]:
    """Read a sound of the input folder."""
    path = run.library.input_file(audio)
    if path is None:
        raise Failure(
            "FileNotFoundError", f"[Errno 2] No such file or directory: '{run.folders.input / audio}'"
        )
    return (audio_synthesis.read(path),)


@node(
    "EmptyAudio",
    inputs={
        "duration": number(60.0, 0.0),
        "sample_rate": integer(44100, 1, 192000),
        "channels": integer(2, 1, 2),
    },
    outputs=("AUDIO",),
    category="audio",
    title="Empty Audio",
    module=MODULE,
)
def empty_audio(run: Run, duration: float, sample_rate: int, channels: int) -> tuple[Sound]:
    """Return silence."""
    return (audio_synthesis.silence(duration, sample_rate),)


@node(
    "TrimAudioDuration",
    inputs={"audio": link("AUDIO"), "start_index": number(0.0), "duration": number(60.0, 0.0)},
    outputs=("AUDIO",),
    category="audio",
    title="Trim Audio Duration",
    module=MODULE,
)
def trim_audio_duration(run: Run, audio: Sound, start_index: float, duration: float) -> tuple[Sound]:
    """Cut a part out; a start below 0 counts from the end."""
    start = start_index if start_index >= 0 else audio.seconds + start_index
    if not 0 <= start < audio.seconds:
        raise Failure(
            "ValueError", "AudioTrim: Start time must be less than end time and be within the audio length."
        )
    return (audio_synthesis.cut(audio, start, duration),)


def _save(
    run: Run, audio: Sound, prefix: str, suffix: str, codec: tuple[str, ...], kind: str = "output"
) -> Shown:
    place = run.place(prefix, kind=kind)
    # The older version had a trailing underscore, as images still have.
    name = f"{place.stem}_{place.counter:05}{'' if run.modern else '_'}.{suffix}"
    ffmpeg.encode(audio.samples, audio.rate, place.folder / name, codec)
    return Shown((audio,), {"audio": [{"filename": name, "subfolder": place.subfolder, "type": kind}]})


PREFIX = text("audio/ComfyUI", multiline=False)
SAVING: dict[str, Any] = {
    "outputs": ("AUDIO",),
    "names": ("audio",),
    "category": "audio",
    "module": MODULE,
    "is_output": True,
    "passes_through": True,
    "combos": "new since 0.29",
}


@node(
    "SaveAudio",
    inputs={"audio": link("AUDIO"), "filename_prefix": PREFIX},
    title="Save Audio (FLAC)",
    **SAVING,
)
def save_audio(run: Run, audio: Sound, filename_prefix: str) -> Shown:
    """Write a FLAC file."""
    return _save(run, audio, filename_prefix, "flac", ("-c:a", "flac"))


@node(
    "SaveAudioMP3",
    inputs={"audio": link("AUDIO"), "filename_prefix": PREFIX, "quality": choice(*MP3, default="V0")},
    title="Save Audio (MP3)",
    **SAVING,
)
def save_audio_mp3(run: Run, audio: Sound, filename_prefix: str, quality: str) -> Shown:
    """Write an MP3 file."""
    return _save(run, audio, filename_prefix, "mp3", ("-c:a", "libmp3lame", *MP3[quality]))


@node(
    "SaveAudioOpus",
    inputs={"audio": link("AUDIO"), "filename_prefix": PREFIX, "quality": choice(*OPUS, default="128k")},
    title="Save Audio (Opus)",
    **SAVING,
)
def save_audio_opus(run: Run, audio: Sound, filename_prefix: str, quality: str) -> Shown:
    """Write an Opus file."""
    return _save(run, audio, filename_prefix, "opus", ("-c:a", "libopus", "-b:a", quality))


@node("PreviewAudio", inputs={"audio": link("AUDIO")}, title="Preview Audio", **SAVING)
def preview_audio(run: Run, audio: Sound) -> Shown:
    """Write a FLAC file to the temp folder."""
    return _save(run, audio, f"ComfyUI_temp_{TEMP_SUFFIX}", "flac", ("-c:a", "flac"), "temp")
