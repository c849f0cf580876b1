"""The nodes of niknah/ComfyUI-F5-TTS: a text in the voice of a sample.

Weights come from the Hugging Face cache of this machine, or from checkpoints/F5-TTS as `model://NAME`;
the stand-in never fetches them, so what is not there fails as it does for a pack without a network.
Source: the pack's definitions at 1.0.26.
"""

from __future__ import annotations

import random
from pathlib import Path

from emulator.comfyui.graph.run import Failure, Run
from emulator.comfyui.graph.values import Sound
from emulator.comfyui.media import audio_synthesis
from emulator.comfyui.model_files import Library
from emulator.comfyui.nodes.declarations import NEVER_CACHED, Input, choice, link, node, number, text

MODULE = "custom_nodes.ComfyUI-F5-TTS"
MODELS = ("F5v1", "F5", "F5-DE", "F5-ES", "F5-FR", "F5-HI", "F5-IT", "F5-JP", "F5-TH", "E2")
WEIGHTS = {
    "F5v1": ("SWivid/F5-TTS", "F5TTS_v1_Base/model_1250000.safetensors", "F5TTS_v1_Base/vocab.txt"),
    "F5": ("SWivid/F5-TTS", "F5TTS_Base/model_1200000.safetensors"),
    "E2": ("SWivid/E2-TTS", "E2TTS_Base/model_1200000.safetensors"),
}
"""Where a model's weights are; those of the other languages are never in the cache here."""
VOCODERS = {
    "vocos": ("charactr/vocos-mel-24khz", "config.yaml", "pytorch_model.bin"),
    "bigvgan": ("nvidia/bigvgan_v2_24khz_100band_256x", "config.json", "bigvgan_generator.pt"),
}
RECOGNISER = ("openai/whisper-large-v3-turbo", "config.json", "model.safetensors")
MODEL_TYPES = ("E2TTS_Base", "F5TTS_Small", "F5TTS_Base", "F5TTS_v1_Small", "E2TTS_Small", "F5TTS_v1_Base")
LONGEST_SAMPLE_S = 15.0
OFFLINE = (
    "An error happened while trying to locate the file on the Hub and we cannot find the requested files in "
    "the local cache. Please check your connection and try again or make sure your Internet connection is on."
)


def _own(library: Library) -> list[str]:
    """List the weights under checkpoints/F5-TTS that have a vocabulary beside them."""
    names = [name for name in library.names("checkpoints") if name.startswith("F5-TTS/")]
    return [name for name in names if _vocabulary(library, name) is not None]


def _vocabulary(library: Library, name: str) -> Path | None:
    path = library.find("checkpoints", name)
    return None if path is None or not path.with_suffix(".txt").is_file() else path.with_suffix(".txt")


def _models(library: Library) -> list[str]:
    return [*MODELS, *(f"model://{Path(name).name}" for name in _own(library))]


def cached(hub: Path, repository: str, *files: str) -> None:
    """Check that files of a repository are in a Hugging Face cache.

    Raises:
        Failure: one of them is not.
    """
    folder = hub / f"models--{repository.replace('/', '--')}"
    try:
        snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
    except OSError:
        snapshot = folder / "nowhere"
    if any(not (snapshot / name).is_file() for name in files):
        raise Failure("huggingface_hub.errors.LocalEntryNotFoundError", OFFLINE)


def _say(
    run: Run, sample: Sound, sample_text: str, speech: str, seed: int, model: str, vocoder: str, speed: float
) -> tuple[Sound]:
    hub = run.huggingface_cache
    if model in MODELS:
        cached(hub, *WEIGHTS.get(model, (model, "weights")))
    cached(hub, *VOCODERS["vocos" if vocoder == "auto" else vocoder])
    if not sample_text.strip():
        cached(hub, *RECOGNISER)
    if not sample.samples:
        raise Failure("RuntimeError", "The sample audio is empty.")
    run.steps(32)
    chosen = random.randrange(2**31) if seed < 0 else seed
    return (audio_synthesis.speak(speech, chosen, speed),)


COMMON: dict[str, Input] = {
    "speech": text("This is what I want to say", multiline=True),
    "seed": Input("INT", {"display": "number", "step": 1, "default": 1, "min": -1}),
    "model": Input("COMBO", {"default": "F5v1"}, _models),
    "vocoder": choice("auto", "vocos", "bigvgan", default="auto"),
    "speed": number(1.0),
    "model_type": choice(*MODEL_TYPES, default="F5TTS_Base"),
}


@node(
    "F5TTSAudioInputs",
    inputs={"sample_audio": link("AUDIO"), "sample_text": text("Text of sample_audio"), **COMMON},
    outputs=("AUDIO",),
    category="audio",
    title="F5-TTS Audio from input",
    module=MODULE,
    changes=lambda *_: NEVER_CACHED,
)
def f5tts_audio_inputs(
    run: Run,
    sample_audio: Sound,
    sample_text: str,
    speech: str,
    seed: int,
    model: str,
    vocoder: str,
    speed: float,
    model_type: str,
) -> tuple[Sound]:
    """Say a text in the voice of a sound. `speed` above 1 is slower."""
    sample = audio_synthesis.cut(sample_audio, 0.0, LONGEST_SAMPLE_S)
    return _say(run, sample, sample_text, speech, seed, model, vocoder, speed)


def _samples(library: Library) -> list[str]:
    """List the sounds of the input folder that have their text beside them."""
    folder = library.folders.input
    return [name for name in library.input_names("audio") if (folder / name).with_suffix(".txt").is_file()]


@node(
    "F5TTSAudio",
    inputs={"sample": Input("COMBO", {}, _samples), **COMMON},
    outputs=("AUDIO",),
    category="audio",
    title="F5-TTS Audio",
    module=MODULE,
    changes=lambda *_: NEVER_CACHED,
)
def f5tts_audio(
    run: Run, sample: str, speech: str, seed: int, model: str, vocoder: str, speed: float, model_type: str
) -> tuple[Sound]:
    """Say a text in the voice of a file whose text lies beside it."""
    path = run.folders.input / sample
    heard = audio_synthesis.cut(audio_synthesis.read(path), 0.0, LONGEST_SAMPLE_S)
    output = path.with_suffix(".txt").read_text()
    return _say(run, heard, output, speech, seed, model, vocoder, speed)
