"""``talk``: a portrait that speaks a text: ``tts`` and ``lipsync``, as one graph or as two requests."""

from dataclasses import replace
from typing import Final, Required, TypedDict

from backend.verbs import lipsync, tts
from backend.verbs.params import OutputPath, Seed31
from backend.verbs.request import Request
from backend.verbs.result import GenerationResult
from backend.verbs.seed import filename_prefix, seed_of
from backend.verbs.verb import GraphContext, Lookup, Planned, Verb


class TalkParams(TypedDict, total=False):
    """Arguments of ``talk``. Each goes to the parts that have an argument of its name."""

    text: Required[tts.SpokenText]
    voice_reference: Required[tts.VoiceReference]
    portrait_image: Required[lipsync.PortraitImage]
    voice_reference_text: tts.VoiceReferenceText
    speed: tts.Speed
    inference_steps: lipsync.InferenceSteps
    fps: lipsync.FramesPerSecond
    seed: Seed31
    output_path: OutputPath


def build(request: Request, context: GraphContext) -> Lookup[Planned]:
    """Build one graph, in which the speech goes straight into the video."""
    # One seed for both, which the result can tell.
    request = replace(request, given={**request.given, "seed": seed_of(request)})
    speech_request, video_request = parts(request)
    speech = yield from tts.build(speech_request, context)
    portrait = yield from context.bring(video_request["portrait_image"])
    video = lipsync.talking_head(
        portrait=portrait,
        audio=["speech", 0],
        duration_s=lipsync.WHOLE_AUDIO_S,
        filename_prefix=filename_prefix(request, request["seed"]),
        **lipsync.sonic_settings(video_request),
    )
    nodes = {node_id: node for node_id, node in speech.graph.items() if node_id != "save"}
    return Planned(graph=nodes | video, seed=request["seed"])


def parts(request: Request) -> tuple[Request, Request]:
    """Split a request for ``talk``: the speech, which stays where it is made, and a silent video."""
    speech, video = (
        {name: value for name, value in request.given.items() if name in part.params}
        for part in (tts.VERB, lipsync.VERB)
    )
    return (
        Request(verb="tts", given=speech, keep_there=True),
        Request(verb="lipsync", given=video, output_path=request.output_path),
    )


def spoken(video: Request, speech: GenerationResult) -> Request:
    """Add the speech to a silent video, from where that lies."""
    return replace(video, given={**video.given, "audio": speech.files[0]})


def together(speech: GenerationResult, video: GenerationResult) -> GenerationResult:
    """Return the video with the warnings and timings of both: its timings name the two parts."""
    speech_s, video_s = (result.timings.get("total", 0.0) for result in (speech, video))
    return replace(
        video,
        warnings=(*speech.warnings, *video.warnings),
        timings={"tts": speech_s, "lipsync": video_s, "total": round(speech_s + video_s, 3)},
    )


VERB: Final = Verb(
    name="talk",
    arguments=TalkParams,
    summary="Make a portrait speak a text in the voice of a recording: tts, then lipsync.",
    tool="Speak a text in the voice of a recording and make a portrait say it: tts and lipsync in one, as "
    'an MP4 file. Takes minutes: expect status "running". On Hedra use tts, then lipsync.',
    suffix=".mp4",
    graph=build,
    parts=("tts", "lipsync"),
)
