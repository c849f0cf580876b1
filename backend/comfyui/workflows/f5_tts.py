"""Text to speech in a given voice, with F5-TTS."""

from typing import Final

from backend.comfyui.workflows import Graph

# Source: configs of SWivid/F5-TTS as listed by the node (recording object_info_f5tts, pack 1.0.26).
_MODEL_TYPES: Final = {"F5v1": "F5TTS_v1_Base", "E2": "E2TTS_Base"}


def speech(
    *,
    voice: str,
    voice_text: str,
    text: str,
    speed: float,
    seed: int,
    model: str,
    model_type: str | None,
    vocoder: str,
    filename_prefix: str,
) -> Graph:
    """Build the graph.

    Args:
        voice: the recording, as LoadAudio names it; the node uses its first 15 seconds.
        voice_text: what is said in it; empty lets the node recognize it.
        speed: 2 speaks twice as fast.
        model_type: None to follow from the model.

    Source: niknah/ComfyUI-F5-TTS 1.0.26: its own ``speed`` is a stretch, above 1 is *slower*.
    """
    return {
        "voice": {"class_type": "LoadAudio", "inputs": {"audio": voice}},
        "speech": {
            "class_type": "F5TTSAudioInputs",
            "inputs": {
                "sample_audio": ["voice", 0],
                "sample_text": voice_text,
                "speech": text,
                "seed": seed,
                "model": model,
                "model_type": model_type or model_type_of(model),
                "vocoder": vocoder,
                "speed": round(1 / speed, 2),
            },
        },
        "save": {
            "class_type": "SaveAudio",
            "inputs": {"audio": ["speech", 0], "filename_prefix": filename_prefix},
        },
    }


def model_type_of(model: str) -> str:
    """Tell a model's architecture; your own file (``model://…``) is taken for the newest."""
    if model.startswith("model://"):
        return _MODEL_TYPES["F5v1"]
    return _MODEL_TYPES.get(model, "F5TTS_Base")
