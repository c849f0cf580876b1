"""``tts``: text to speech in the voice of a recording, with F5-TTS."""

from typing import Annotated, Final, Literal, Required, TypeAlias, TypedDict

from backend.verbs import transcripts
from backend.verbs.params import InputLike, OutputPath, Param, Seed31
from backend.verbs.request import Request
from backend.verbs.seed import filename_prefix, seed_of
from backend.verbs.verb import Graph, GraphContext, Lookup, Planned, Verb

# Arguments that `talk` has too.
SpokenText: TypeAlias = Annotated[str, Param("Text to speak.")]
VoiceReference: TypeAlias = Annotated[
    InputLike,
    Param("A recording of the voice to clone, 5 to 15 seconds.", aliases=("voice_sample", "sample")),
]
VoiceReferenceText: TypeAlias = Annotated[
    str,
    Param(
        "What the recording says; by default the .txt file beside it; else the optional model "
        "whisper-large-v3-turbo recognizes it.",
        aliases=("sample_text",),
    ),
]
Speed: TypeAlias = Annotated[float, Param("2 speaks twice as fast.", default=1.0, low=0.25, high=4)]


class TTSParams(TypedDict, total=False):
    """Arguments of ``tts``."""

    text: Required[SpokenText]
    voice_reference: Required[VoiceReference]
    voice_reference_text: VoiceReferenceText
    speed: Speed
    model: Annotated[str, Param("F5-TTS model.", default="F5v1")]
    model_type: Annotated[str, Param("Its architecture; by default from the model's name.")]
    vocoder: Annotated[Literal["auto", "vocos", "bigvgan"], Param("Vocoder.", default="vocos")]
    seed: Seed31
    output_path: OutputPath


# Source: configs of SWivid/F5-TTS as listed by the node (recording object_info_f5tts, pack 1.0.26).
_MODEL_TYPES: Final = {"F5v1": "F5TTS_v1_Base", "E2": "E2TTS_Base"}


def build(request: Request, context: GraphContext) -> Lookup[Planned]:
    """Build the graph, with the words of the recording if they are known."""
    reference = request["voice_reference"]
    voice = yield from context.bring(reference)
    voice_text = transcripts.given(request) or (yield from context.transcript(reference, voice))
    seed = seed_of(request)
    graph = speech(
        voice=voice,
        voice_text=voice_text,
        text=request["text"],
        speed=request["speed"],
        seed=seed,
        model=request["model"],
        model_type=request["model_type"],
        vocoder=request["vocoder"],
        filename_prefix=filename_prefix(request, seed),
    )
    return Planned(graph=graph, seed=seed)


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


VERB: Final = Verb(
    name="tts",
    arguments=TTSParams,
    summary="Speak a text in the voice of a recording.",
    tool="Speak a text in the voice of a recording of 5 to 15 seconds, as a FLAC file. Give "
    "voice_reference_text, the exact words of the recording, for a better and quicker result.",
    suffix=".flac",
    graph=build,
)
